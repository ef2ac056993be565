#!lua
-- cron_tick: enqueues the items of a recurring item's ticks and sets its next tick, if its next tick and its definition
-- are still the ones that the caller saw: so each tick has one item, however many schedulers there are. An id that the
-- queue knows is left as it is. A repeat after a lost reply finds another tick, and changes nothing.
-- Returns {'ok', epoch, 1 where it was the caller's to do, how many items it enqueued}.
-- Errors: QUEUE_FULL length limit bytes limit, PAUSED, STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT,
--   WRONG_TYPE, NO_RIGHT.
-- uses: _wake _enqueue _room _ticks _journal
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
local crons = KEYS[11] -- hash: name -> last tick in ms, revision and definition of a recurring item
local ticks = KEYS[12] -- zset: name of a recurring item by its next tick in ms
local journal = KEYS[13] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local cron_name = ARGV[3] -- of the recurring item
local revision = ARGV[4] -- the revision that the caller saw
local seen = ARGV[5] -- the tick that the caller saw, in ms
local next_at = ARGV[6] -- the next one, 'inf' for none
local last_at = ARGV[7] -- the last one that has an item now, '' where none of these has
-- ARGV[8...]: the items, each three: id, body, group ('' none)

enter({ 'paused_enqueue', 'max_length', 'waiting_bytes', 'stamp', 'enqueued', 'cancelled_places', 'sweep_until_ms' })
local now = clock()
local score = call('ZSCORE', ticks, cron_name)
local found, definition = string.match(call('HGET', crons, cron_name) or '', '^%d+ (%x+) (.*)$')
if not score or whole(tonumber(score)) ~= seen or found ~= revision then
  return { 'ok', known, 0, 0 }
end

local ids, bodies, names, n = {}, {}, {}, 0
for i = 8, #ARGV, 3 do
  n = n + 1
  ids[n], bodies[n], names[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
end
if n > 0 then
  if field.paused_enqueue then
    refuse('PAUSED', 'enqueue')
  end
  local lists
  ids, lists = unknown(ids, { bodies, names })
  bodies, names = unpack(lists)
  n = #ids
  local full = n > 0 and (extras or field.max_length) and cold().beyond_limits(bodies)
  if full then
    refuse('QUEUE_FULL', full)
  end
end
may_set_tick()
permitted('HSET', crons)
if n > 0 then
  may_add_items(false, true)
  look_for_idle()
  add_items(ids, bodies, ids, {}, grouped(ids, names), now)
end
if last_at ~= '' then
  call('HSET', crons, cron_name, last_at .. ' ' .. found .. ' ' .. definition)
end
set_tick(cron_name, next_at, now)
touch_queue()
save()
wake_workers(n, now)
return { 'ok', known, 1, n }
