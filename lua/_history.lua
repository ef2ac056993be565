-- needs: attempts
-- uses: _stamp
-- What an item went through is kept only for items that came back to the queue at least once, in `attempts`:
-- 'place claims failures expiries receipt'. The place is 'q' while it is queued again, 'h' where it was put back at the
-- head, 'w' while it waits for the turn of its group, 'p' while it is in progress again. The receipt is the one that
-- gave the item back, so that a repeat of that is recognised.
--
-- Items that were scheduled have one from the start, because they enter the queue out of the order of their stamps.
-- Items without history are claimed in the order of their stamps, so one number says which of them have left the
-- queue: `claimed_stamp` in meta, the stamp of the last one claimed.

local IN_PROGRESS_AGAIN = 112 -- 'p'
local AT_HEAD = 104 -- 'h'
local WAITS_FOR_TURN = 119 -- 'w'

local function read_history(value)
  if not value then
    return 0, 0, 0, ''
  end
  local taken, failures, expiries, receipt = string.match(value, '^%a (%d+) (%d+) (%d+) (.*)$')
  return tonumber(taken) or 0, tonumber(failures) or 0, tonumber(expiries) or 0, receipt or ''
end

local function write_history(place, taken, failures, expiries, receipt)
  return place .. ' ' .. whole(taken) .. ' ' .. whole(failures) .. ' ' .. whole(expiries) .. ' ' .. receipt
end

-- Whether this very receipt gave the item back before: then only the reply had been lost.
local function given_back_by(id, receipt)
  local _, _, _, last = read_history(call('HGET', attempts, id))
  return last == receipt
end

-- Histories for scheduled items that have none yet, from scores and ids as ZADD takes them.
local function out_of_order(scores_and_ids)
  local fields = {}
  for i = 2, #scores_and_ids, 2 do
    fields[i - 1], fields[i] = scores_and_ids[i], write_history('q', 0, 0, 0, '')
  end
  return fields
end

-- The stamp of the last item without history among those claimed. A damaged record's stamp is none that was given out,
-- or one that was passed before, and does not count. Asks for the fields claimed_stamp and stamp.
local function last_in_order(ids, records, histories)
  local passed, given_out = number_of('claimed_stamp', -1), number_of('stamp', math.huge)
  for i = #ids, 1, -1 do
    local stamp = not histories[i] and read_stamp(records[i])
    if stamp and stamp > passed and stamp <= given_out then
      return stamp
    end
  end
  return nil
end

-- Notes that ids are in progress. `histories` is what `attempts` has of them, empty where it has nothing at all.
local function note_claimed(ids, records, histories)
  local fields = {}
  for i in pairs(histories) do
    if histories[i] then
      fields[#fields + 1], fields[#fields + 2] = ids[i], 'p' .. string.sub(histories[i], 2)
    end
  end
  if #fields > 0 then
    call('HSET', attempts, unpack(fields))
  end
  local stamp = last_in_order(ids, records, histories)
  if stamp then
    change('claimed_stamp', stamp)
  end
end
