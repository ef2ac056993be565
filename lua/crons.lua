#!lua flags=no-writes
-- crons: the recurring items of a queue, those whose tick comes first ahead: one by its name, those due, or all.
-- Returns {'ok', epoch, now in ms, names, next ticks in ms ('inf' none), last tick, revision and definition of each}.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
local meta = KEYS[1] -- hash: epoch, settings, counters
local crons = KEYS[2] -- hash: name -> last tick in ms, revision and definition of a recurring item
local ticks = KEYS[3] -- zset: name of a recurring item by its next tick in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local which = ARGV[3] -- 'one', 'due' or 'all'
local cron_name = ARGV[4] -- of the one
local offset = ARGV[5] -- how many of the due ones are left out

local MOST = 1000 -- as in cron_set

enter({}, true)
local now_score = whole(math.floor(clock() / 1000))
local found
if which == 'one' then
  local score = call('ZSCORE', ticks, cron_name)
  found = score and { cron_name, score } or {}
elseif which == 'due' then
  found = call('ZRANGE', ticks, '-inf', now_score, 'BYSCORE', 'LIMIT', offset, PAGE, 'WITHSCORES')
else
  found = call('ZRANGE', ticks, '0', whole(MOST - 1), 'WITHSCORES')
end
local names, scores = {}, {}
for i = 1, #found, 2 do
  names[#names + 1], scores[#scores + 1] = found[i], found[i + 1]
end
local values = #names > 0 and call('HMGET', crons, unpack(names)) or {}
return { 'ok', known, now_score, names, scores, values }
