-- needs: waiting scheduled leases
-- Notes a worker as idle for wait_ms. Returns the ms until the first item falls due or lease ends, -1 where none will.

-- A worker starts to block a round trip after it was noted. One that is noted too long costs a token that wakes
-- somebody for nothing; one that is noted too short would take a token that was meant for another.
local LATE_MS = 1000

local function wait_for_wake(now)
  permitted('ZADD', waiting)
  permitted('ZREMRANGEBYSCORE', waiting)
  local now_score = math.floor(now / 1000)
  call('ZREMRANGEBYSCORE', waiting, '-inf', whole(now_score))
  call('ZADD', waiting, whole(now_score + tonumber(wait_ms) + LATE_MS), worker)
  local next_at = -1
  for _, key in ipairs({ scheduled, leases }) do
    local head = call('ZRANGE', key, '0', '0', 'WITHSCORES')
    if head[2] and (next_at < 0 or tonumber(head[2]) < next_at) then
      next_at = tonumber(head[2])
    end
  end
  return next_at < 0 and -1 or math.max(0, next_at - now_score)
end
