#!lua flags=allow-oom
-- restore_batch: puts a batch into a queue that is being rebuilt, when its members are there. One that awaits nobody
-- any more is followed at once. Repeating it changes nothing more.
-- Returns {'ok', epoch}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _enqueue _batch _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local groups = KEYS[6] -- hash: id -> its group
local members = KEYS[7] -- hash: id -> its batch
local batches = KEYS[8] -- hash: batch -> how far it is, and what follows
local journal = KEYS[9] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local rebuild_id = ARGV[3] -- the one that the rebuild was begun with
local batch_id = ARGV[4] -- its id
local follow_when = ARGV[5] -- 'finished' or 'settled'
local sealed_then = ARGV[6] -- '1' when no more items will come
local in_all = ARGV[7] -- members in all
local left = ARGV[8] -- members that are awaited
local following = ARGV[9] -- the item that follows, packed as in `batches`

enter({ 'rebuild_id', 'state', 'stamp', 'enqueued', 'waiting_bytes' }, true)
if field.rebuild_id ~= rebuild_id or field.state ~= 'rebuilding' then
  refuse('REBUILDING', known)
end
field.batched = '1'
cold().may_settle_members()
local seal, awaited = sealed_then == '1', tonumber(left)
local state = cold().write_batch(follow_when, seal, tonumber(in_all), awaited)
call('HSET', batches, 'b' .. batch_id, state, 't' .. batch_id, following)
change('batched', 1)
if seal and awaited <= 0 then
  cold().follow_batch(batch_id, clock())
end
save()
return { 'ok', known }
