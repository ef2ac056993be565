-- needs: queued
-- uses: _stamp
-- Puts ids back at the head of the queue so that the one enqueued first is the next one claimed.

local function place_at_head(ids, records)
  if #ids == 0 then
    return
  end
  local stamps, order = {}, {}
  for i = 1, #ids do
    order[i] = ids[i]
    stamps[ids[i]] = records[i] and read_stamp(records[i]) or 0
  end
  table.sort(order, function(a, b)
    return stamps[a] > stamps[b]
  end)
  call('LPUSH', queued, unpack(order))
end
