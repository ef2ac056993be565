#!lua flags=allow-oom
-- pause: closes a queue for claims, for new items, or both. Items in progress go on. Repeating it changes nothing more.
-- Returns {'ok', epoch}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local journal = KEYS[2] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local claim = ARGV[3] -- '1' to close it for claims
local enqueue = ARGV[4] -- '1' to close it for new items

enter({})
permitted('HSET', meta)
if known == '' then
  create(clock())
end
if claim == '1' then
  call('HSET', meta, 'paused_claim', '1')
end
if enqueue == '1' then
  call('HSET', meta, 'paused_enqueue', '1')
end
touch_queue()
save()
return { 'ok', known }
