#!lua flags=allow-oom
-- cron_set: keeps a recurring item, changes it, or removes it (definition = ''), unless somebody else has changed it
-- since it was read: then nothing happens. The queue is made where there is none. Repeating it changes nothing more.
-- Returns {'ok', epoch, 'done', 'changed' (by somebody else: read it again) or 'full' (there are too many)}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _ticks _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local crons = KEYS[2] -- hash: name -> last tick in ms, revision and definition of a recurring item
local ticks = KEYS[3] -- zset: name of a recurring item by its next tick in ms
local alarm = KEYS[4] -- list: a token wakes the sweeper
local journal = KEYS[5] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local cron_name = ARGV[3] -- of the recurring item
local seen = ARGV[4] -- the revision that the client saw, '' where it saw none
local revision = ARGV[5] -- made by the client: the revision that this is
local definition = ARGV[6] -- what clients make of it, '' to remove it
local next_at = ARGV[7] -- the next tick in ms, 'inf' for none, '' to leave it as it is

local MOST = 1000 -- in one queue: listing them is one call

enter({ 'sweep_until_ms' })
local now = clock()
local last, found = string.match(call('HGET', crons, cron_name) or '', '^(%d+) (%x+) ')
if found == revision or not found and definition == '' then
  return { 'ok', known, 'done' }
end
if (found or '') ~= seen then
  return { 'ok', known, 'changed' }
end
if not found and call('HLEN', crons) >= MOST then
  return { 'ok', known, 'full' }
end
may_set_tick()
permitted('HSET', meta)
permitted('HSET', crons)
permitted('HDEL', crons)
permitted('ZREM', ticks)
if known == '' then
  create(now)
end
if definition == '' then
  call('ZREM', ticks, cron_name)
  call('HDEL', crons, cron_name)
else
  call('HSET', crons, cron_name, (last or '0') .. ' ' .. revision .. ' ' .. definition)
  if next_at ~= '' then
    set_tick(cron_name, next_at, now)
  end
end
touch_queue()
save()
return { 'ok', known, 'done' }
