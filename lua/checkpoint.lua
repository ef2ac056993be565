#!lua flags=allow-oom
-- checkpoint: stores how far the work on a held item has come, and renews its lease. Repeating it changes nothing more.
-- Returns {'ok', epoch, 1 where it was stored, 0 where the item is not held under this receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _lease _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local claims = KEYS[2] -- hash: receipt -> ids that it holds
local leases = KEYS[3] -- zset: receipt by deadline in ms
local checkpoints = KEYS[4] -- hash: id -> how far its work has come
local journal = KEYS[5] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local held_by = ARGV[3] -- the one that the item is held under
local item_id = ARGV[4] -- of the item
local lease_ms = ARGV[5] -- new length of the lease, from now
local progress = ARGV[6] -- what to store

enter({})
permitted('ZADD', leases)
permitted('HSET', checkpoints)
typed(checkpoints, 'hash')
local now_score = math.floor(clock() / 1000)
local mine = split_claim(held_by, { item_id })
if #mine == 0 then
  return { 'ok', known, 0 }
end
call('ZADD', leases, 'XX', 'GT', whole(now_score + tonumber(lease_ms)), held_by)
call('HSET', checkpoints, item_id, whole(now_score) .. ' ' .. progress)
touch({ item_id })
save()
return { 'ok', known, 1 }
