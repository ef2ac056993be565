#!lua flags=allow-oom
-- requeue: puts scheduled, orphaned and dead items at the tail of the queue. Dead ones start their attempts afresh; one
-- that is of a group goes to the head, before those of its group that wait.
-- Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it moved those that were scheduled, orphaned or dead.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _where _requeue _wake _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local waiting = KEYS[8] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[9] -- list: one token wakes one worker
local groups = KEYS[10] -- hash: id -> its group
local journal = KEYS[11] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: ids

enter({ 'waiting_bytes' })
local now = clock()
may_queue_again()
look_for_idle()
local states, records, histories = states_of({ unpack(ARGV, 3) })
local ids, at = in_states({ unpack(ARGV, 3) }, states, { scheduled = true, orphaned = true, dead = true })
if #ids > 0 then
  queue_again(ids, pick(states, at), pick(histories, at), pick(records, at), false)
  save()
  wake_workers(#ids, now)
end
return { 'ok', known, states }
