#!lua flags=no-writes
-- batch_progress: how far a batch is.
-- Returns {'ok', epoch, members in all, members awaited}, both -1 where the batch is through, or was never begun.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
local meta = KEYS[1] -- hash: epoch, settings, counters
local batches = KEYS[2] -- hash: batch -> how far it is, and what follows
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local batch_id = ARGV[3] -- its id

enter({}, true)
local progress = call('HGET', batches, 'b' .. batch_id) or '' -- as _batch.lua, which would write, has it
local total, awaited = string.match(progress, '^%a+ %d (%d+) (%d+)$')
return { 'ok', known, tonumber(total) or -1, tonumber(awaited) or -1 }
