#!lua flags=allow-oom
-- resolve: a person or a program has looked at orphaned or dead items and decides. 'finish': their work was done.
-- 'requeue': it was not, and they go to the head of the queue, because it was their turn. 'dead': neither can be told.
-- Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it moved those that were orphaned or dead.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _end _where _requeue _after _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local errors = KEYS[5] -- hash: id -> last error
local scheduled = KEYS[6] -- zset: id by due time in ms
local orphaned = KEYS[7] -- zset: id by the time it was set aside in ms
local dead = KEYS[8] -- zset: id by time of death in ms
local finished_order = KEYS[9] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[10] -- hash: id -> how far its work has come
local waiting = KEYS[11] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[12] -- list: one token wakes one worker
local groups = KEYS[13] -- hash: id -> its group
local turns = KEYS[14] -- hash: group -> ids that have the turn
local parked = KEYS[15] -- zset: items that wait for the turn of their group
local members = KEYS[16] -- hash: id -> its batch
local batches = KEYS[17] -- hash: batch -> how far it is, and what follows
local watched = KEYS[18] -- zset: id that somebody waits for, by the end of the wait in ms
local journal = KEYS[19] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local decision = ARGV[3] -- 'finish', 'requeue' or 'dead'
-- ARGV[4...]: ids

enter({
  'finished', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'waiting_bytes', 'stamp', 'enqueued',
})
local now = clock()
may_queue_again()
may_end_items()
cold().may_go_on()
permitted('ZADD', dead)
typed(dead, 'zset')
look_for_idle()
local states, records, histories = states_of({ unpack(ARGV, 4) })
local ids, at = in_states({ unpack(ARGV, 4) }, states, { orphaned = true, dead = decision ~= 'dead' or nil })
if #ids == 0 then
  return { 'ok', known, states }
end
local wakes = #ids
if decision == 'requeue' then
  queue_again(ids, pick(states, at), pick(histories, at), pick(records, at), true)
elseif decision == 'finish' then
  end_items(ids, 'f', '', now)
  call('ZREM', orphaned, unpack(ids))
  call('ZREM', dead, unpack(ids))
  add('finished', #ids)
  wakes = cold().go_on_after(ids, 'finished', now)
  forget(now)
else
  local buried = {}
  for i, id in ipairs(ids) do
    buried[i * 2 - 1], buried[i * 2] = whole(math.floor(now / 1000)), id
  end
  call('ZADD', dead, unpack(buried))
  call('ZREM', orphaned, unpack(ids))
  touch(ids)
  wakes = cold().go_on_after(ids, 'dead', now)
end
save()
wake_workers(wakes, now)
return { 'ok', known, states }
