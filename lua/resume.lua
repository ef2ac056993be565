#!lua flags=allow-oom
-- resume: opens a queue again for claims and new items, and wakes idle workers. Repeating it changes nothing more.
-- Returns {'ok', epoch}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local queued = KEYS[2] -- list: ids, oldest left
local waiting = KEYS[3] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[4] -- list: one token wakes one worker
local journal = KEYS[5] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock

enter({})
permitted('HDEL', meta)
look_for_idle()
local length = call('LLEN', queued)
call('HDEL', meta, 'paused_claim', 'paused_enqueue')
wake_workers(length, clock())
touch_queue()
save()
return { 'ok', known }
