#!lua flags=allow-oom
-- configure: changes settings of a queue, which is made where there is none. Repeating it changes nothing more.
-- Returns {'ok', epoch, name, value, name, value ...} with all settings as they are now.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _settings _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local journal = KEYS[2] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: name, value, ...; the value '' means the default

enter({})
permitted('HSET', meta)
permitted('HDEL', meta)
if known == '' then
  create(clock())
end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    call('HDEL', meta, ARGV[i])
  else
    call('HSET', meta, 'extras', '1', ARGV[i], ARGV[i + 1])
  end
end
touch_queue()
save()
return { 'ok', known, all_settings() }
