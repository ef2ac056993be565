-- A stamp is when an item was enqueued and its place in the order at once: ticks of 5 us, raised by one where two
-- items would share a tick, so that stamps grow strictly, also on a new master that is behind the old one.
-- It is stored as the first 6 bytes of the record, most significant first.

local char, byte = string.char, string.byte
local STAMP_EPOCH = 1735689600 * 200000 -- 2025-01-01 in ticks
local STAMP_BYTES = 6

-- What the first byte of a stamp never is before 2069: it marks an item that has ended, see _end.lua.
local ENDED = 255

local function to_ticks(now)
  return math.floor(now / 5) - STAMP_EPOCH
end

local function ticks_ms(stamp)
  return (stamp + STAMP_EPOCH) / 200
end

-- The four high bytes as a string, and the two low ones as a number.
local function split_stamp(stamp)
  local low = stamp % 65536
  local rest = (stamp - low) / 65536
  local b4 = rest % 256
  rest = (rest - b4) / 256
  local b3 = rest % 256
  rest = (rest - b3) / 256
  local b2 = rest % 256
  return char((rest - b2) / 256, b2, b3, b4), low
end

local function pack_stamp(stamp)
  local high, low = split_stamp(stamp)
  return high .. char((low - low % 256) / 256, low % 256)
end

-- Returns nil where the bytes can't be a stamp.
local function read_stamp(record, from)
  from = from or 1
  local b1, b2, b3, b4, b5, b6 = byte(record, from, from + 5)
  if not b6 or b1 == ENDED then
    return nil
  end
  return ((((b1 * 256 + b2) * 256 + b3) * 256 + b4) * 256 + b5) * 256 + b6
end

local function next_stamp(last, now)
  return math.max(to_ticks(now), last + 1)
end

-- A due time in ms as the score of `scheduled`, or nil where it has come: '' at once, '+ms' from now, 'ms' absolute.
local function due_at(due, now)
  if due == '' then
    return nil
  end
  local at = tonumber(due)
  if string.sub(due, 1, 1) == '+' then
    at = math.floor(now / 1000) + at
  end
  return at * 1000 > now and whole(at) or nil
end

local function has_ended(record)
  return byte(record) == ENDED
end
