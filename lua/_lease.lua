-- needs: meta claims leases
-- uses: _ids
-- A claim is one lease over the items that it took. `claims` has the packed ids that it still holds: an item is in
-- progress exactly when it stands in a claim, and the claim's id is its receipt. `leases` has the claim's deadline.

-- Asks for what keep_claim writes. `claims` is read before that.
local function may_keep_claims()
  permitted('HSET', meta)
  permitted('HSET', claims)
  permitted('HDEL', claims)
  permitted('ZREM', leases)
end

-- Takes a few ids out of packed UUIDs without reading all of these: a thread that settles one item of a thousand
-- pays for a search, not for a thousand strings. Returns the packed rest, or nil where one of the ids is not there.
local function cut_ids(packed, ids)
  if byte(packed) ~= UUIDS or #ids > 4 then
    return nil
  end
  for i = 1, #ids do
    local at = 1
    repeat
      at = #ids[i] == 16 and string.find(packed, ids[i], at + 1, true)
    until not at or (at - 2) % 16 == 0
    if not at then
      return nil
    end
    packed = string.sub(packed, 1, at - 1) .. string.sub(packed, at + 16)
  end
  return packed
end

-- Looks which of `ids` a claim holds. Returns these, the indexes (from 1) of the others, and the packed rest of the
-- claim without them.
local function split_claim(receipt, ids)
  local packed = call('HGET', claims, receipt) or ''
  if packed == pack_ids(ids) then
    return ids, {}, ''
  end
  local cut = cut_ids(packed, ids)
  if cut then
    return ids, {}, cut
  end
  local wanted, mine, others, left = {}, {}, {}, {}
  for i = 1, #ids do
    wanted[ids[i]] = i
  end
  for _, id in ipairs(unpack_ids(packed, 1)) do
    local into = wanted[id] and mine or left
    into[#into + 1] = id
    wanted[id] = nil
  end
  for i = 1, #ids do
    others[#others + 1] = wanted[ids[i]] == i and i or nil
  end
  return mine, others, pack_ids(left)
end

-- Leaves a claim with what it has left; drops it where that is nothing. A lease without a claim would be dropped by
-- the next recovery, a claim without a lease would never end: hence the order.
local function keep_claim(receipt, left, settled)
  if #left > 1 then
    call('HSET', claims, receipt, left)
  else
    call('HDEL', claims, receipt)
    call('ZREM', leases, receipt)
  end
  add('in_progress', -settled)
end
