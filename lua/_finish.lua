-- needs: meta items claims leases attempts errors finished_order
-- uses: _stamp _ids _lease _end

-- Whether this very receipt finished the item before: then only the reply had been lost.
local function finished_by(id, receipt)
  local record = call('HGET', items, id)
  return record and has_ended(record) and string.sub(record, 8) == 'f' .. receipt
end

-- Finishes runs of items, ARGV[from...] = receipt, number of ids, ids, receipt, ... up to ARGV[to].
-- Returns the indexes (from 0) of what is not held under its receipt.
local function finish_runs(from, to, now)
  if from > to then
    return {}
  end
  may_end_items()
  may_keep_claims()
  typed(leases, 'zset')
  local lost, base, done = {}, 0, 0
  while from < to do
    local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
    local ids = { unpack(ARGV, from + 2, from + 1 + size) }
    local mine, others, left = split_claim(receipt, ids)
    for _, i in ipairs(others) do
      if not finished_by(ids[i], receipt) then
        lost[#lost + 1] = base + i - 1
      end
    end
    if #mine > 0 then
      end_items(mine, 'f', receipt, now)
      keep_claim(receipt, left, #mine)
      done = done + #mine
    end
    base = base + size
    from = from + 2 + size
  end
  if done > 0 then
    add('finished', done)
    forget(now)
    save()
  end
  return lost
end
