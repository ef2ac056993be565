#!lua flags=allow-oom
-- recover: takes back up to `limit` items whose lease has ended, and queues scheduled items that are due. Every claim
-- does the same for up to 100 items; this is for sweeping and for operators. Repeating it takes the next ones.
-- Returns {'ok', epoch, requeued, orphaned, dead, unreadable, queued because due, leases that have ended still}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _due _expired _journal
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
local limit = ARGV[3] -- items at most, 1 to 1000

enter({ 'expiry', 'max_deliveries', 'in_progress', 'waiting_bytes', 'stamp', 'enqueued' })
local now = clock()
look_for_idle()
local count = recover_expired(tonumber(limit), now)
local due = queue_due(now)
wake_workers(count.requeued + count.wakes + due, now)
local left = call('ZCOUNT', leases, '-inf', whole(math.floor(now / 1000)))
return { 'ok', known, count.requeued, count.orphaned, count.dead, count.unreadable, due, left }
