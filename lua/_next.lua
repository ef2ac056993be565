-- needs: scheduled leases
-- What time itself will bring.

-- The ms until the first item falls due or the first lease ends, -1 where none will.
local function next_event(now)
  local next_at = -1
  for _, key in ipairs({ scheduled, leases }) do
    local head = call('ZRANGE', key, '0', '0', 'WITHSCORES')
    if head[2] and (next_at < 0 or tonumber(head[2]) < next_at) then
      next_at = tonumber(head[2])
    end
  end
  return next_at < 0 and -1 or math.max(0, next_at - math.floor(now / 1000))
end

-- The nearer of two waits in ms; the first may be -1 for never, the second nil.
local function sooner(wait, other)
  if not other then
    return wait
  end
  return wait < 0 and other or math.min(wait, other)
end
