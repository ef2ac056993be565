#!lua
-- enqueue: adds items at the tail of `queued`, or to `scheduled` where they are due later.
-- An id that the queue knows (waiting, held, dead, or ended within its retention) is left as it is, so that a repeat
-- after a lost reply changes nothing. The ids of one call differ from each other: the caller sees to that.
-- Returns {'ok', epoch, indexes (from 0) of the items that were there already}.
-- Errors: QUEUE_FULL length limit, PAUSED, STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _history _wake
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local scheduled = KEYS[4] -- zset: id by due time in ms
local attempts = KEYS[5] -- hash: id -> history
local waiting = KEYS[6] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[7] -- list: one token wakes one worker
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local stride = ARGV[3] -- 2: id, body; 3: id, body, due ('' at once, '+ms' from now, 'ms' absolute)
-- ARGV[4...]: the items

-- Leaves out the items that the queue knows already. Returns the rest and the indexes (from 0) of those left out.
local function unknown(ids, bodies, dues)
  local records = call('HMGET', items, unpack(ids))
  local there = {}
  for i = 1, #ids do
    if records[i] then
      there[#there + 1] = i - 1
    end
  end
  if #there == 0 then
    return ids, bodies, dues, there
  end
  local new_ids, new_bodies, new_dues, n = {}, {}, {}, 0
  for i = 1, #ids do
    if not records[i] then
      n = n + 1
      new_ids[n], new_bodies[n], new_dues[n] = ids[i], bodies[i], dues[i]
    end
  end
  return new_ids, new_bodies, new_dues, there
end

-- Returns the ids for `queued`, and the scores and ids for `scheduled`.
local function split_due(ids, dues)
  if next(dues) == nil then
    return ids, {}
  end
  local places, later = {}, {}
  for i = 1, #ids do
    if dues[i] then
      later[#later + 1], later[#later + 2] = dues[i], ids[i]
    else
      places[#places + 1] = ids[i]
    end
  end
  return places, later
end

-- Ids and records for `items`: each body behind its stamp.
local function stamped(ids, bodies, stamp)
  local fields = {}
  local high, low = split_stamp(stamp)
  for i = 1, #ids do
    if low > 65535 then
      high, low = split_stamp(stamp + i - 1)
    end
    fields[i * 2 - 1] = ids[i]
    fields[i * 2] = high .. char((low - low % 256) / 256, low % 256) .. bodies[i]
    low = low + 1
  end
  return fields
end

enter({ 'paused_enqueue', 'max_length', 'stamp', 'enqueued', 'cancelled_places' })
if field.paused_enqueue then
  refuse('PAUSED', 'enqueue')
end
local now = clock()
local step = tonumber(stride)

local ids, bodies, dues, n = {}, {}, {}, 0
for i = 4, #ARGV, step do
  n = n + 1
  ids[n], bodies[n] = ARGV[i], ARGV[i + 1]
  if step == 3 then
    dues[n] = due_at(ARGV[i + 2], now)
  end
end
local there
ids, bodies, dues, there = unknown(ids, bodies, dues)
n = #ids
if n == 0 then
  return { 'ok', known, there }
end
local places, later = split_due(ids, dues)

local limit = number_of('max_length')
if limit > 0 then
  local length = call('LLEN', queued) - number_of('cancelled_places') + call('ZCARD', scheduled)
  if length + n > limit then
    refuse('QUEUE_FULL', whole(length) .. ' ' .. whole(limit))
  end
end
permitted('HSET', items)
permitted('RPUSH', queued)
typed(queued, 'list')
if #later > 0 then
  permitted('ZADD', scheduled)
  typed(scheduled, 'zset')
  typed(attempts, 'hash')
end
look_for_idle()

if known == '' then
  create(now)
end
local stamp = next_stamp(number_of('stamp'), now)
-- The place before the record: a place without a record is skipped, a record without a place would be lost.
if #places > 0 then
  call('RPUSH', queued, unpack(places))
end
if #later > 0 then
  call('ZADD', scheduled, unpack(later))
  call('HSET', attempts, unpack(out_of_order(later)))
end
call('HSET', items, unpack(stamped(ids, bodies, stamp)))
change('stamp', stamp + n - 1)
add('enqueued', n)
save()
-- An idle worker sleeps at most until the first due item that it knows of, so a new one wakes a worker as well.
wake_workers(#places + (#later > 0 and 1 or 0), now)
return { 'ok', known, there }
