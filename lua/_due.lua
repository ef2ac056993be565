-- needs: queued scheduled
-- uses: _journal
-- Moves due items from `scheduled` to the tail of `queued`, earliest first. Returns how many.

local function queue_due(now)
  local due = call('ZRANGE', scheduled, '-inf', whole(math.floor(now / 1000)), 'BYSCORE', 'LIMIT', '0', PAGE)
  if #due > 0 then
    permitted('RPUSH', queued)
    permitted('ZREM', scheduled)
    typed(queued, 'list')
    call('RPUSH', queued, unpack(due))
    call('ZREM', scheduled, unpack(due))
    touch(due)
    save()
  end
  return #due
end
