-- needs: waiting wake
-- One token for each idle worker that has an item to take, never more: a worker says in `waiting` until when it
-- blocks on `wake`, and leaves that set with the token. A token that its worker never takes wakes another one.

local function wake_writable()
  if call('EXISTS', waiting) == 1 then
    writable(waiting, 'zset', 'ZPOPMAX')
    writable(wake, 'list', 'RPUSH')
  end
end

local function wake_workers(wanted, now)
  if wanted < 1 or call('EXISTS', waiting) == 0 then
    return
  end
  local workers = call('ZPOPMAX', waiting, whole(math.min(wanted, PAGE)))
  local tokens = {}
  for i = 2, #workers, 2 do
    if tonumber(workers[i]) * 1000 > now then
      tokens[#tokens + 1] = '1'
    end
  end
  if #tokens > 0 then
    call('RPUSH', wake, unpack(tokens))
  end
end
