#!lua
-- await_room: a producer that found the queue full waits for room: a token in `room` says that it may try again.
-- Repeating it waits for longer.
-- Returns {'ok', epoch, 1 where there is room now}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _room
local meta = KEYS[1] -- hash: epoch, settings, counters
local queued = KEYS[2] -- list: ids, oldest left
local scheduled = KEYS[3] -- zset: id by due time in ms
local parked = KEYS[4] -- zset: items that wait for the turn of their group
local producers = KEYS[5] -- zset: producer that waits for room, by the end of its wait in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local producer = ARGV[3] -- name under which to wait
local wait_ms = ARGV[4] -- how long that wait will be
local wants = ARGV[5] -- items that want room
local weighs = ARGV[6] -- of their records

-- As for workers: what is noted too short would take a token that was meant for another.
local LATE_MS = 1000

enter({ 'max_length', 'waiting_bytes', 'cancelled_places', 'paused_enqueue' })
local now_score = math.floor(clock() / 1000)
if cold().fits(tonumber(wants), tonumber(weighs)) then
  return { 'ok', known, 1 }
end
permitted('HSET', meta)
permitted('ZADD', producers)
permitted('ZREMRANGEBYSCORE', producers)
typed(producers, 'zset')
local until_ms = now_score + tonumber(wait_ms) + LATE_MS
call('ZREMRANGEBYSCORE', producers, '-inf', whole(now_score))
call('ZADD', producers, whole(until_ms), producer)
change_extra('producers_until_ms', math.max(number_of('producers_until_ms'), until_ms))
save()
return { 'ok', known, 0 }
