#!lua flags=allow-oom
-- finish: ends items that are held under the given receipts, for good. Needs no live lease, only the receipt: a late
-- finish counts until the item has been recovered. Repeated with the same receipt it is a quiet yes.
-- Returns {'ok', epoch, indexes (from 0) of the items that are not held under their receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _ids _lease _end _finish
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local claims = KEYS[3] -- hash: receipt -> ids that it holds
local leases = KEYS[4] -- zset: receipt by deadline in ms
local attempts = KEYS[5] -- hash: id -> history
local errors = KEYS[6] -- hash: id -> last error
local finished_order = KEYS[7] -- list: stamp and ids that ended together, oldest left
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: runs of receipt, number of ids, ids

enter({ 'finished', 'in_progress', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms' })
return { 'ok', known, finish_runs(3, #ARGV, clock()) }
