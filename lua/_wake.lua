-- needs: waiting wake
-- One token for each idle worker that has an item to take, never more: a worker says in `waiting` until when it
-- blocks on `wake`, and leaves that set with the token. A token that its worker never takes wakes another one.

local idle = false -- whether somebody waits

local function look_for_idle()
  idle = call('EXISTS', waiting) == 1
  if idle then
    typed(waiting, 'zset')
    typed(wake, 'list')
    permitted('ZPOPMAX', waiting)
    permitted('RPUSH', wake)
  end
end

local function wake_workers(wanted, now)
  if not idle or wanted < 1 then
    return
  end
  local named = call('ZPOPMAX', waiting, whole(math.min(wanted, PAGE)))
  local tokens = {}
  for i = 2, #named, 2 do
    if tonumber(named[i]) * 1000 > now then
      tokens[#tokens + 1] = '1'
    end
  end
  if #tokens > 0 then
    call('RPUSH', wake, unpack(tokens))
  end
end
