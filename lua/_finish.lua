-- needs: meta items claims leases attempts errors finished_order
-- uses: _lease _end _after

-- Whether this very receipt ended the item before: then only the reply had been lost. `how` is 'f' or 'r'.
local function ended_by(id, receipt, how)
  local record = call('HGET', items, id)
  if not record or not has_ended(record) then
    return false
  end
  local tail = string.sub(record, 8)
  return tail == how .. receipt or string.sub(tail, 1, #receipt + 2) == string.upper(how) .. char(#receipt) .. receipt
end

-- Finishes runs of items, ARGV[from...] = receipt, number of ids, ids, receipt, ... up to ARGV[to].
-- Returns the indexes (from 0) of what is not held under its receipt, and how many workers to wake.
local function finish_runs(from, to, now)
  if from > to then
    return {}, 0
  end
  may_end_items()
  may_keep_claims()
  if extras then
    cold().may_go_on()
  end
  typed(leases, 'zset')
  local lost, base, done, wakes = {}, 0, 0, 0
  while from < to do
    local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
    local ids = { unpack(ARGV, from + 2, from + 1 + size) }
    local mine, others, left = split_claim(receipt, ids)
    for _, i in ipairs(others) do
      if not ended_by(ids[i], receipt, 'f') then
        lost[#lost + 1] = base + i - 1
      end
    end
    if #mine > 0 then
      end_items(mine, 'f', receipt, now)
      keep_claim(receipt, left, #mine)
      if extras then
        wakes = wakes + cold().go_on_after(mine, 'finished', now)
      end
      done = done + #mine
    end
    base = base + size
    from = from + 2 + size
  end
  if done > 0 then
    add('finished', done)
    forget(now)
    save()
  else
    leave_trace()
  end
  return lost, wakes
end
