-- needs: meta items finished_order attempts errors
-- uses: _stamp _ids
-- An item that has ended keeps its id and, instead of its record: byte 255, a stamp of when, 'f' finished or
-- 'r' removed or 'c' cancelled with its place still in the queue, and the receipt that finished it.
-- `finished_order` has a stamp and the packed ids of each call that ended items, so that they are forgotten in order.

local DEFAULT_FINISHED_AGE_MS = 3600000 -- a repeat of an enqueue later than this is a new item
local DEFAULT_FINISHED_COUNT = 1000000 -- about 100 MB of ids

local function end_writable()
  writable(meta, 'hash', 'HINCRBY', 'HSET')
  writable(items, 'hash', 'HSET', 'HDEL')
  writable(finished_order, 'list', 'RPUSH', 'LPOP')
  writable(attempts, 'hash', 'HDEL')
  writable(errors, 'hash', 'HDEL')
end

local function drop_history(ids)
  if call('EXISTS', attempts, errors) > 0 then
    call('HDEL', attempts, unpack(ids))
    call('HDEL', errors, unpack(ids))
  end
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
  drop_history(ids)
end

-- Counts ids that have just ended, and forgets the oldest ones while there are too many or they are too old: at most
-- two calls' worth at a time, so that no call pays for all.
local function remember(added, now)
  local found = call('HMGET', meta, 'remembered', 'finished_age_ms', 'finished_count')
  local remembered = (tonumber(found[1]) or 0) + added
  local too_old = now / 1000 - (tonumber(found[2]) or DEFAULT_FINISHED_AGE_MS)
  local max_count = tonumber(found[3]) or DEFAULT_FINISHED_COUNT
  for _ = 1, 2 do
    local oldest = call('LINDEX', finished_order, '0')
    if not oldest or remembered <= max_count and ticks_ms(read_stamp(oldest)) > too_old then
      break
    end
    local ids = unpack_ids(oldest, 7)
    call('HDEL', items, unpack(ids))
    call('LPOP', finished_order)
    remembered = remembered - #ids
  end
  call('HSET', meta, 'remembered', whole(remembered))
end
