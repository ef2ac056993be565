#!lua flags=allow-oom
-- finish_and_claim: a worker's whole round trip. Finishes items as finish does, then claims as claim does. Each half is
-- safe to repeat by itself, and so is the whole.
-- Returns {'ok', epoch, indexes (from 0) of items not held any more, ids, records, histories, groups, checkpoints,
-- more, next}, as finish and claim do.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _wait _due _finish _expired _claim _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local scheduled = KEYS[7] -- zset: id by due time in ms
local orphaned = KEYS[8] -- zset: id by the time it was set aside in ms
local dead = KEYS[9] -- zset: id by time of death in ms
local errors = KEYS[10] -- hash: id -> last error
local finished_order = KEYS[11] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[12] -- hash: id -> how far its work has come
local waiting = KEYS[13] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[14] -- list: one token wakes one worker
local groups = KEYS[15] -- hash: id -> its group
local turns = KEYS[16] -- hash: group -> ids that have the turn
local parked = KEYS[17] -- zset: items that wait for the turn of their group
local members = KEYS[18] -- hash: id -> its batch
local batches = KEYS[19] -- hash: batch -> how far it is, and what follows
local watched = KEYS[20] -- zset: id that somebody waits for, by the end of the wait in ms
local producers = KEYS[21] -- zset: producer that waits for room, by the end of its wait in ms
local room = KEYS[22] -- list: one token lets one producer try again
local journal = KEYS[23] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local claim_id = ARGV[3] -- made by the client; the receipt of what this claim takes
local count = ARGV[4] -- items wanted, 1 to 1000
local lease_ms = ARGV[5] -- length of the lease
local worker = ARGV[6] -- '' or the name under which to wait where nothing is there
local wait_ms = ARGV[7] -- how long that wait will be
-- ARGV[8...]: runs of receipt, number of ids, ids

enter({
  'paused_claim', 'expiry', 'max_deliveries', 'stamp', 'claimed_stamp', 'in_progress', 'cancelled_places',
  'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'waiting_bytes', 'enqueued', 'finished',
})
local now = clock()
look_for_idle()
local lost, wakes = finish_runs(8, #ARGV, now)

local recovered = recover_expired(PAGE, now)
local returned = wakes + recovered.requeued + recovered.wakes + queue_due(now)
local claimed = claim_items(now)
local ids = claimed.ids
wake_workers(returned + claimed.wakes - #ids, now)
local histories, names, states = beside(ids, claimed.histories)
local more = claimed.more and 1 or 0
if #ids > 0 or more == 1 or worker == '' then
  return { 'ok', known, lost, ids, claimed.records, histories, names, states, more, -1 }
end
return { 'ok', known, lost, ids, ids, histories, names, states, 0, sooner(wait_for_wake(now), claimed.wait) }
