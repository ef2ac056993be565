-- needs: items queued attempts scheduled orphaned dead
-- uses: _stamp _history _place
-- Puts set-aside items back into the queue: at its tail, or at its head where they keep their turn.

local function may_queue_again()
  permitted('RPUSH', queued)
  may_place_at_head()
  permitted('ZREM', dead)
  typed(scheduled, 'zset')
  typed(orphaned, 'zset')
  typed(dead, 'zset')
end

-- What was dead starts its attempts afresh. The number of claims goes on, because it is the fencing number of the next
-- delivery.
local function queue_again(ids, states, histories, records, at_head)
  local fields = {}
  for i, id in ipairs(ids) do
    local taken, failures, expiries = read_history(histories[i])
    if states[i] == 'dead' then
      failures, expiries = 0, 0
    end
    fields[i * 2 - 1], fields[i * 2] = id, write_history(at_head and 'h' or 'q', taken, failures, expiries, '')
  end
  call('HSET', attempts, unpack(fields))
  if at_head then
    place_at_head(ids, records)
  else
    call('RPUSH', queued, unpack(ids))
  end
  call('ZREM', scheduled, unpack(ids))
  call('ZREM', orphaned, unpack(ids))
  call('ZREM', dead, unpack(ids))
end
