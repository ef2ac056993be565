-- needs: items queued attempts
-- uses: _stamp _history
-- Puts ids back at the head of the queue so that the one enqueued first is the next one claimed. What was put there
-- before and has an earlier turn keeps it, up to PAGE items: claims that end one after the other, as those of a
-- machine that died do, would come back in the opposite order. Histories of the ids say AT_HEAD.

-- Bytes of records, for waiting_bytes.
local function weight(records)
  local bytes = 0
  for _, record in pairs(records) do
    bytes = bytes + (record and #record or 0)
  end
  return bytes
end

local function may_place_at_head()
  permitted('LPUSH', queued)
  permitted('LTRIM', queued)
  permitted('LRANGE', queued)
  permitted('HMGET', items)
  permitted('HSET', attempts)
  typed(queued, 'list')
  typed(items, 'hash')
  typed(attempts, 'hash')
end

local function place_at_head(ids, records)
  if #ids == 0 then
    return
  end
  local stamps, order, last = {}, {}, 0
  for i = 1, #ids do
    local stamp = records[i] and read_stamp(records[i]) or 0
    order[i], stamps[ids[i]] = ids[i], stamp
    last = math.max(last, stamp)
  end
  local head = call('LRANGE', queued, '0', whole(PAGE - 1))
  local found, histories = {}, {}
  if #head > 0 then
    found, histories = call('HMGET', items, unpack(head)), call('HMGET', attempts, unpack(head))
  end
  local ahead = 0
  for i = 1, #head do
    local stamp = found[i] and read_stamp(found[i]) or 0
    local cancelled = found[i] and has_ended(found[i]) -- its place may be anywhere
    local in_turn = histories[i] and byte(histories[i]) == AT_HEAD and stamp < last
    if stamps[head[i]] or not (cancelled or in_turn) then
      break
    end
    ahead = i
    order[#order + 1], stamps[head[i]] = head[i], stamp
  end
  table.sort(order, function(a, b)
    return stamps[a] > stamps[b]
  end)
  -- The one place where a source goes before its destination: nothing that is left to fail stands between the two.
  if ahead > 0 then
    call('LTRIM', queued, whole(ahead), '-1')
  end
  call('LPUSH', queued, unpack(order))
end
