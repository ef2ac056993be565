#!lua
-- watch: how an item is now, and where it has not ended, that its end is to be told on the channel
-- `reliq:{queue}:ended` for wait_ms. Dead is an end here: nothing goes on by itself. Repeating it waits for longer.
-- Returns {'ok', epoch, state ('' unknown)}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _where
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local attempts = KEYS[3] -- hash: id -> history
local scheduled = KEYS[4] -- zset: id by due time in ms
local orphaned = KEYS[5] -- zset: id by the time it was set aside in ms
local dead = KEYS[6] -- zset: id by time of death in ms
local watched = KEYS[7] -- zset: id that somebody waits for, by the end of the wait in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local item_id = ARGV[3] -- of the item
local wait_ms = ARGV[4] -- for how long somebody will listen

enter({})
local now_score = math.floor(clock() / 1000)
local state = states_of({ item_id })[1]
if state == 'finished' or state == 'removed' or state == 'dead' or state == '' or tonumber(wait_ms) <= 0 then
  return { 'ok', known, state }
end
permitted('HSET', meta)
permitted('ZADD', watched)
permitted('ZREMRANGEBYSCORE', watched)
typed(watched, 'zset')
local before = tonumber(call('HGET', meta, 'watched_until_ms')) or 0
local until_ms = now_score + tonumber(wait_ms)
call('ZREMRANGEBYSCORE', watched, '-inf', whole(now_score))
call('ZADD', watched, 'GT', whole(until_ms), item_id)
change_extra('watched_until_ms', math.max(before, until_ms))
save()
return { 'ok', known, state }
