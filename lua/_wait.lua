-- needs: waiting
-- uses: _next
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
  return next_event(now)
end
