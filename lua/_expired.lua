-- needs: leases
-- uses: _recover
-- Leases that have ended: looked for in every claim, seldom found.

local NONE_RECOVERED = { requeued = 0, orphaned = 0, dead = 0, unreadable = 0, wakes = 0 }

-- Recovers up to `bound` items. Returns how many went where, and how many workers have something to do by the dead.
local function recover_expired(bound, now)
  local now_score = whole(math.floor(now / 1000))
  local expired = call('ZRANGE', leases, '-inf', now_score, 'BYSCORE', 'LIMIT', '0', whole(bound))
  if #expired == 0 then
    return NONE_RECOVERED
  end
  return cold().recover_claims(expired, bound, now)
end
