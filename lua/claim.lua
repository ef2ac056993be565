#!lua flags=allow-oom
-- claim: takes the oldest queued items under a lease, after returning expired leases and due items to the queue.
-- Repeated with the same claim id while that claim holds items, it returns the same items and takes no more.
-- An idle worker (worker ~= '') is noted in `waiting`, so that one enqueue wakes one worker.
-- Returns {'ok', epoch, ids, records, histories (none, or false where an item is new), more, next}:
--   more = 1: the search met its bound before it found enough items, ask again at once;
--   next: ms until something falls due (-1: nothing will), given only where there are no ids.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _ids _history _wake _wait _due _place _lease _end _recover _claim
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
local waiting = KEYS[12] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[13] -- list: one token wakes one worker
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local claim_id = ARGV[3] -- made by the client; the receipt of what this claim takes
local count = ARGV[4] -- items wanted, 1 to 1000
local lease_ms = ARGV[5] -- length of the lease
local worker = ARGV[6] -- '' or the name under which to wait where nothing is there
local wait_ms = ARGV[7] -- how long that wait will be

enter({
  'paused_claim', 'expiry', 'max_deliveries', 'stamp', 'claimed_stamp', 'in_progress', 'cancelled_places',
  'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms',
})
local now = clock()

look_for_idle()
local recovered = recover_expired(PAGE, now)
local returned = recovered.requeued + queue_due(now)
local ids, records, histories, more = claim_items(now)
wake_workers(returned - #ids, now)
if #ids > 0 or more or worker == '' then
  return { 'ok', known, ids, records, histories, more and 1 or 0, -1 }
end
return { 'ok', known, ids, records, {}, 0, wait_for_wake(now) }
