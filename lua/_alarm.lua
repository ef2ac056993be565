-- needs: scheduled alarm
-- uses: _wake
-- cold
-- Whoever sweeps for the fleet sleeps until the first item falls due that it knows of. One that is due earlier sounds
-- the alarm. Where nobody sweeps, an idle worker is woken, which then sleeps no longer than that.

function offered.may_sound_alarm()
  permitted('RPUSH', alarm)
  permitted('ZRANGE', scheduled)
  typed(alarm, 'list')
end

-- Wakes workers for `places` queued items and for those in `later`, scores and ids as ZADD takes them. Asks for the
-- field sweep_until_ms.
function offered.wake_for(places, later, now)
  if #later == 0 then
    return wake_workers(places, now)
  end
  if number_of('sweep_until_ms') * 1000 <= now then
    return wake_workers(places + 1, now)
  end
  wake_workers(places, now)
  local first = tonumber(later[1])
  for i = 3, #later, 2 do
    first = math.min(first, tonumber(later[i]))
  end
  local head = call('ZRANGE', scheduled, '0', '0', 'WITHSCORES')
  if head[2] and tonumber(head[2]) >= first and call('LLEN', alarm) == 0 then
    call('RPUSH', alarm, '1')
  end
end
