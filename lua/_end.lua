-- needs: items finished_order
-- uses: _stamp _ids
-- An item that has ended keeps its id and, instead of its record: byte 255, a stamp of when, 'f' finished or
-- 'r' removed or 'c' cancelled with its place still in the queue, and the receipt that finished it.
-- `finished_order` has a stamp and the packed ids of each call that ended items, so that they are forgotten in order.

local DEFAULT_FINISHED_AGE_MS = 3600000 -- a repeat of an enqueue later than this is a new item
local DEFAULT_FINISHED_COUNT = 1000000 -- about 100 MB of ids

local function end_writable()
  writable(meta, 'hash', 'HINCRBY')
  writable(items, 'hash', 'HSET', 'HDEL')
  writable(finished_order, 'list', 'RPUSH', 'LPOP')
end

local function has_ended(record)
  return byte(record) == ENDED
end

-- Replaces the records of ids by how they ended.
local function mark_ended(ids, how, receipt, when)
  local ended = char(ENDED) .. when .. how .. receipt
  local fields = {}
  for i = 1, #ids do
    fields[i * 2 - 1] = ids[i]
    fields[i * 2] = ended
  end
  call('HSET', items, unpack(fields))
end

local function end_items(ids, how, receipt, now)
  local when = pack_stamp(ticks(now))
  call('RPUSH', finished_order, when .. pack_ids(ids))
  mark_ended(ids, how, receipt, when)
end

-- Forgets the oldest ended ids while there are too many or they are too old: at most two calls' worth at a time, so
-- that no call pays for all. Returns how many it forgot.
local function forget_ended(remembered, now, age_ms, max_count)
  age_ms = tonumber(age_ms) or DEFAULT_FINISHED_AGE_MS
  max_count = tonumber(max_count) or DEFAULT_FINISHED_COUNT
  local forgotten = 0
  for _ = 1, 2 do
    local oldest = call('LINDEX', finished_order, '0')
    if not oldest then
      break
    end
    local ended_ms = ticks_ms(read_stamp(oldest))
    if remembered - forgotten <= max_count and ended_ms > now / 1000 - age_ms then
      break
    end
    local ids = unpack_ids(oldest, 7)
    call('HDEL', items, unpack(ids))
    call('LPOP', finished_order)
    forgotten = forgotten + #ids
  end
  return forgotten
end
