#!lua
-- batch: enqueues items as enqueue does, as members of a batch. When it is sealed and all members are through, the item
-- that follows is enqueued, once: when the last one has finished ('finished': dead ones are waited for until somebody
-- helps them, removed ones are not), or when each has finished, died or been removed ('settled'). A repeat, with the
-- same ids, changes nothing more.
-- Returns {'ok', epoch, indexes (from 0) of the items that were there already}.
-- Errors: QUEUE_FULL length limit bytes limit, PAUSED, STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT,
--   WRONG_TYPE, NO_RIGHT.
-- uses: _wake _alarm _room _enqueue _batch _journal
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
local members = KEYS[11] -- hash: id -> its batch
local batches = KEYS[12] -- hash: batch -> how far it is, and what follows
local journal = KEYS[13] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local batch_id = ARGV[3] -- its id
local follow_when = ARGV[4] -- 'finished' or 'settled'
local sealed_now = ARGV[5] -- '1' when no more items will come
local then_id = ARGV[6] -- id of the item that follows
local then_due = ARGV[7] -- as due in enqueue
local then_group = ARGV[8] -- '' none
local then_body = ARGV[9] -- its body
-- ARGV[10...]: the items, each four: id, body, due, group

enter({ 'paused_enqueue', 'max_length', 'waiting_bytes', 'stamp', 'enqueued', 'cancelled_places', 'sweep_until_ms' })
local now = clock()
local ids, bodies, dues, names, n = {}, {}, {}, {}, 0
for i = 10, #ARGV, 4 do
  n = n + 1
  ids[n], bodies[n], dues[n], names[n] = ARGV[i], ARGV[i + 1], due_at(ARGV[i + 2], now), ARGV[i + 3]
end
local lists, there = { bodies, dues, names }, {}
if n > 0 then
  ids, lists, there = unknown(ids, lists)
end
bodies, dues, names = unpack(lists)
n = #ids
local _, was_sealed, total, awaited = cold().read_batch(call('HGET', batches, 'b' .. batch_id) or '')
local is_known = call('HEXISTS', batches, 'b' .. batch_id) == 1
if n > 0 then
  if field.paused_enqueue then
    refuse('PAUSED', 'enqueue')
  end
  local full = cold().beyond_limits(bodies)
  if full then
    refuse('QUEUE_FULL', full)
  end
end
field.batched = '1'
cold().may_settle_members()
permitted('HSET', members)
cold().may_sound_alarm()
look_for_idle()
if known == '' then
  create(now)
end
change_extra('batched', 1)
total, awaited = total + n, awaited + n
local seal = sealed_now == '1' or was_sealed
local places, later, wakes = {}, {}, 0
if n > 0 or not is_known or seal ~= was_sealed then
  local progress = cold().write_batch(follow_when, seal, total, awaited)
  local following = cold().pack_then(then_id, then_due, then_group, then_body)
  call('HSET', batches, 'b' .. batch_id, progress, 't' .. batch_id, following)
end
if n > 0 then
  local fields = {}
  for i, id in ipairs(ids) do
    fields[i * 2 - 1], fields[i * 2] = id, batch_id
  end
  call('HSET', members, unpack(fields))
  places, later = split_due(ids, dues)
  add_items(ids, bodies, places, later, grouped(ids, names), now)
end
cold().touch_batch(batch_id)
if seal and awaited <= 0 then
  wakes = cold().follow_batch(batch_id, now)
end
save()
cold().wake_for(#places + wakes, later, now)
return { 'ok', known, there }
