#!lua flags=allow-oom
-- finish: ends items that are held under the given receipts, for good. Needs no live lease, only the receipt: a late
-- finish counts until the item has been recovered. Repeated with the same receipt it is a quiet yes.
-- Returns {'ok', epoch, indexes (from 0) of the items that are not held under their receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _finish _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local claims = KEYS[3] -- hash: receipt -> ids that it holds
local leases = KEYS[4] -- zset: receipt by deadline in ms
local attempts = KEYS[5] -- hash: id -> history
local errors = KEYS[6] -- hash: id -> last error
local finished_order = KEYS[7] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[8] -- hash: id -> how far its work has come
local queued = KEYS[9] -- list: ids, oldest left
local scheduled = KEYS[10] -- zset: id by due time in ms
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
-- ARGV[3...]: runs of receipt, number of ids, ids

enter({
  'finished', 'in_progress', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'stamp', 'enqueued',
  'waiting_bytes',
})
local now = clock()
local lost, wakes = finish_runs(3, #ARGV, now)
wake_workers(wakes, now)
return { 'ok', known, lost }
