-- needs: meta claims leases
-- uses: _ids
-- A claim is one lease over the items that it took. `claims` has the packed ids that it still holds: an item is in
-- progress exactly when it stands in a claim, and the claim's id is its receipt. `leases` has the claim's deadline.

local function leases_writable()
  writable(meta, 'hash', 'HINCRBY')
  writable(claims, 'hash', 'HSET', 'HDEL')
  writable(leases, 'zset', 'ZREM')
end

-- Where `id` starts in packed ids, and how many bytes it takes with its length byte; nil where it is not among them.
local function find_id(packed, id)
  if byte(packed) == UUIDS then
    local at = 2
    repeat
      at = string.find(packed, id, at, true)
      if at and (at - 2) % 16 == 0 and #id == 16 then
        return at, 16
      end
      at = at and at + 1
    until not at
    return nil
  end
  local at = 2
  while at <= #packed do
    local size = byte(packed, at)
    if size == #id and string.sub(packed, at + 1, at + size) == id then
      return at, size + 1
    end
    at = at + size + 1
  end
  return nil
end

-- Takes ids out of a claim. Returns those that it held, the indexes (from 1) of the others, and what the claim has left.
local function split_claim(receipt, ids)
  local packed = call('HGET', claims, receipt) or ''
  if packed == pack_ids(ids) then
    return ids, {}, ''
  end
  local mine, others = {}, {}
  for i = 1, #ids do
    local at, size = find_id(packed, ids[i])
    if at then
      mine[#mine + 1] = ids[i]
      packed = string.sub(packed, 1, at - 1) .. string.sub(packed, at + size)
    else
      others[#others + 1] = i
    end
  end
  return mine, others, packed
end

-- Leaves a claim with what it has left; drops it where that is nothing.
local function keep_claim(receipt, left, settled)
  if #left > 1 then
    call('HSET', claims, receipt, left)
  else
    call('ZREM', leases, receipt)
    call('HDEL', claims, receipt)
  end
  if settled > 0 then
    call('HINCRBY', meta, 'in_progress', whole(-settled))
  end
end
