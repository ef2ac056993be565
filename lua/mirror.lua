#!lua flags=allow-oom
-- mirror: begins or ends the journal of a queue, which is made where there is none. Repeating it changes nothing more.
-- Ending it removes the journal.
-- Returns {'ok', epoch, entries in the journal, id of the last entry ('' none yet), id of the first one there}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local journal = KEYS[2] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local wanted = ARGV[3] -- '1' to begin, '0' to end, '' to look
local most = ARGV[4] -- entries that the journal may have, '' for its default

enter({})
if wanted ~= '' then
  permitted('HSET', meta)
  permitted('HDEL', meta)
  permitted('DEL', journal)
  permitted('XADD', journal)
  typed(journal, 'stream')
end
if wanted == '1' then
  if known == '' then
    create(clock())
  end
  call('HSET', meta, 'extras', '1', 'mirrored', '1')
  if most ~= '' then
    call('HSET', meta, 'journal_max', most)
  end
  field.mirrored = '1'
  if call('EXISTS', journal) == 0 then
    touch_queue()
    save()
  end
elseif wanted == '0' then
  call('HDEL', meta, 'mirrored', 'journal_max')
  call('DEL', journal)
end
local length, last, first = call('XLEN', journal), '', ''
if length > 0 then
  last = call('XREVRANGE', journal, '+', '-', 'COUNT', '1')[1][1]
  first = call('XRANGE', journal, '-', '+', 'COUNT', '1')[1][1]
end
return { 'ok', known, length, last, first }
