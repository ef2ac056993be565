#!lua flags=allow-oom
-- discard: removes orphaned and dead items for good. Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it removed those that were orphaned or dead.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _end _where _after _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local attempts = KEYS[3] -- hash: id -> history
local errors = KEYS[4] -- hash: id -> last error
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local finished_order = KEYS[8] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[9] -- hash: id -> how far its work has come
local queued = KEYS[10] -- list: ids, oldest left
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
-- ARGV[3...]: ids

enter({
  'removed', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'waiting_bytes', 'stamp', 'enqueued',
})
local now = clock()
may_end_items()
cold().may_go_on()
permitted('ZREM', orphaned)
typed(orphaned, 'zset')
permitted('ZREM', dead)
typed(dead, 'zset')
local states = states_of({ unpack(ARGV, 3) })
local ids = in_states({ unpack(ARGV, 3) }, states, { orphaned = true, dead = true })
if #ids > 0 then
  end_items(ids, 'r', '', now)
  call('ZREM', orphaned, unpack(ids))
  call('ZREM', dead, unpack(ids))
  add('removed', #ids)
  local wakes = cold().go_on_after(ids, 'removed', now)
  forget(now)
  save()
  wake_workers(wakes, now)
end
return { 'ok', known, states }
