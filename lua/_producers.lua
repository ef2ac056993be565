-- needs: producers room
-- cold
-- Those who wait for room: in `producers` by the end of their wait. As with workers, each token lets one try again.
function offered.may_tell_producers()
  if field.producers_until_ms then
    permitted('ZPOPMAX', producers)
    permitted('RPUSH', room)
    typed(producers, 'zset')
    typed(room, 'list')
  end
end

function offered.tell_producers(places, now)
  if places < 1 or number_of('producers_until_ms') * 1000 < now then
    return
  end
  local waiters, tokens = call('ZPOPMAX', producers, whole(math.min(places, PAGE))), {}
  for i = 2, #waiters, 2 do
    tokens[#tokens + 1] = tonumber(waiters[i]) * 1000 > now and '1' or nil
  end
  if #tokens > 0 then
    call('RPUSH', room, unpack(tokens))
  end
end
