-- needs: ticks alarm
-- When recurring items are due: `ticks` has each by its next tick in ms, 'inf' for one that has none. Which tick is the
-- next one is for a client to say: a script knows nothing of time zones.

-- The ms until the next tick, 0 where one is due and -1 where none will be; and the same for those still to come.
local function next_tick(now)
  local now_score = math.floor(now / 1000)
  local due = call('ZCOUNT', ticks, '-inf', whole(now_score)) > 0
  local head = call('ZRANGE', ticks, '(' .. whole(now_score), '(inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES')
  local ahead = head[2] and tonumber(head[2]) - now_score or -1
  return due and 0 or ahead, ahead
end

local function may_set_tick()
  permitted('ZADD', ticks)
  permitted('ZRANGE', ticks)
  permitted('ZCOUNT', ticks)
  permitted('RPUSH', alarm)
  permitted('LLEN', alarm)
  typed(ticks, 'zset')
  typed(alarm, 'list')
end

-- Sets the next tick of one. Whoever sweeps for the fleet is told where it comes before all that are known there.
local function set_tick(name, tick, now)
  call('ZADD', ticks, tick, name)
  local ms = tonumber(tick) and tonumber(tick) - math.floor(now / 1000)
  local _, ahead = next_tick(now)
  local is_first = ms and (ms <= 0 or ms == ahead)
  if is_first and number_of('sweep_until_ms') * 1000 > now and call('LLEN', alarm) == 0 then
    call('RPUSH', alarm, '1')
  end
end
