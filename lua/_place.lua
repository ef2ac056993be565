-- needs: queued
-- Puts ids back at the head of the queue so that the one enqueued first is the next one claimed.

local function place_at_head(entries)
  if #entries == 0 then
    return
  end
  table.sort(entries, function(a, b)
    return a.stamp > b.stamp
  end)
  local ids = {}
  for i, entry in ipairs(entries) do
    ids[i] = entry.id
  end
  call('LPUSH', queued, unpack(ids))
end
