#!lua flags=no-writes
-- workers: who works on this queue, those seen last first, 1,000 at most.
-- Returns {'ok', epoch, now in ms, name of the sweeper ('' nobody), names, seen at in ms, facts}.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
local meta = KEYS[1] -- hash: epoch, settings, counters
local workers = KEYS[2] -- zset: worker by when it was last seen, in ms
local worker_facts = KEYS[3] -- hash: worker -> what it says of itself
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock

enter({ 'sweeper', 'sweep_until_ms' }, true)
local now_score = math.floor(clock() / 1000)
local found = call('ZRANGE', workers, '0', '999', 'REV', 'WITHSCORES')
local names, seen = {}, {}
for i = 1, #found, 2 do
  names[#names + 1], seen[#seen + 1] = found[i], found[i + 1]
end
local facts = #names > 0 and call('HMGET', worker_facts, unpack(names)) or {}
local sweeper = number_of('sweep_until_ms') > now_score and field.sweeper or ''
return { 'ok', known, whole(now_score), sweeper, names, seen, facts }
