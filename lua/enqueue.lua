#!lua
-- enqueue: adds items at the tail of `queued`, or to `scheduled` where they are due later.
-- An id that the queue knows (waiting, held, dead, or ended within its retention) is left as it is, so that a repeat
-- after a lost reply changes nothing. The ids of one call differ from each other: the caller sees to that.
-- Returns {'ok', epoch, indexes (from 0) of the items that were there already}.
-- Errors: QUEUE_FULL length limit bytes limit, PAUSED, STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT,
--   WRONG_TYPE, NO_RIGHT.
-- uses: _wake _alarm _enqueue _room _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local scheduled = KEYS[4] -- zset: id by due time in ms
local attempts = KEYS[5] -- hash: id -> history
local waiting = KEYS[6] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[7] -- list: one token wakes one worker
local alarm = KEYS[8] -- list: a token wakes the sweeper
local groups = KEYS[9] -- hash: id -> its group
local parked = KEYS[10] -- zset: items that wait for the turn of their group
local journal = KEYS[11] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local stride = ARGV[3] -- 2: id, body; 3: and due ('' at once, '+ms' from now, 'ms' absolute); 4: and group ('' none)
-- ARGV[4...]: the items

enter({ 'paused_enqueue', 'max_length', 'waiting_bytes', 'stamp', 'enqueued', 'cancelled_places', 'sweep_until_ms' })
if field.paused_enqueue then
  refuse('PAUSED', 'enqueue')
end
local now = clock()
local step = tonumber(stride)

local ids, bodies, dues, names, n = {}, {}, {}, {}, 0
for i = 4, #ARGV, step do
  n = n + 1
  ids[n], bodies[n] = ARGV[i], ARGV[i + 1]
  if step > 2 then
    dues[n] = due_at(ARGV[i + 2], now)
    names[n] = step > 3 and ARGV[i + 3] or nil
  end
end
local lists, there
ids, lists, there = unknown(ids, { bodies, dues, names })
n = #ids
if n == 0 then
  leave_trace()
  return { 'ok', known, there }
end
bodies, dues, names = unpack(lists)
local places, later = split_due(ids, dues)
local named = step > 3 and grouped(ids, names) or {}

local full = (extras or field.max_length) and cold().beyond_limits(bodies)
if full then
  refuse('QUEUE_FULL', full)
end
may_add_items(#later > 0, #named > 0)
if #later > 0 then
  cold().may_sound_alarm()
end
look_for_idle()
if known == '' then
  create(now)
end
add_items(ids, bodies, places, later, named, now)
save()
if #later == 0 then
  wake_workers(n, now)
else
  cold().wake_for(#places, later, now)
end
return { 'ok', known, there }
