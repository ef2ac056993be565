-- needs: claim_id count lease_ms meta items queued claims leases attempts errors dead finished_order
-- uses: _stamp _ids _history _lease _end
-- The oldest items under a lease. The claim id that the client made is their receipt; while it holds items, asking
-- again with it brings the same ones, because the first reply may have been lost.

-- Asks for what a claim writes. All keys but the histories are read before.
local function may_claim()
  permitted('HSET', meta)
  permitted('HSET', claims)
  permitted('ZADD', leases)
  permitted('LTRIM', queued)
end

-- What an earlier call with this claim id took and still holds, in its order.
local function claimed_before()
  local packed = call('HGET', claims, claim_id)
  if not packed then
    return {}, {}
  end
  local ids = unpack_ids(packed, 1)
  return ids, call('HMGET', items, unpack(ids))
end

-- Looks at the head of the queue for up to `wanted` items. Returns ids, their records, how many places to take off,
-- the cancelled ids and the ids without a readable record among these. Places of cancelled items are skipped, SKIP of
-- them at most.
local SKIP = 1000

local function oldest(wanted)
  local ids, records, cancelled, broken = {}, {}, {}, {}
  local n, used = 0, 0
  local ask = wanted
  while n < wanted and used - n < SKIP do
    local page = call('LRANGE', queued, whole(used), whole(used + ask - 1))
    if #page == 0 then
      break
    end
    local found = call('HMGET', items, unpack(page))
    for i = 1, #page do
      local record = found[i]
      if record and byte(record) == ENDED then
        cancelled[#cancelled + 1] = page[i]
      elseif record and #record > STAMP_BYTES then
        n = n + 1
        ids[n], records[n] = page[i], record
      else
        broken[#broken + 1] = page[i]
      end
      used = used + 1
      if n == wanted then
        break
      end
    end
    if #page < ask then
      break
    end
    ask = math.max(wanted - n, PAGE)
  end
  return ids, records, used, cancelled, broken, n < wanted and used - n >= SKIP
end

-- Items whose record is missing or cut off are not dropped in silence: they go to the dead, where people look.
local function bury_broken(ids, now)
  local buried, reasons = {}, {}
  for i, id in ipairs(ids) do
    buried[i * 2 - 1], buried[i * 2] = whole(math.floor(now / 1000)), id
    reasons[i * 2 - 1], reasons[i * 2] = id, 'its record is missing or unreadable'
  end
  call('ZADD', dead, unpack(buried))
  call('HSET', errors, unpack(reasons))
end

local function hold_items(ids, deadline)
  call('ZADD', leases, deadline, claim_id)
  call('HSET', claims, claim_id, pack_ids(ids))
  add('in_progress', #ids)
end

local function histories_of(ids)
  if #ids == 0 or call('EXISTS', attempts) == 0 then
    return {}
  end
  return call('HMGET', attempts, unpack(ids))
end

-- A cancelled item is forgotten no sooner than its place is gone, so that its id is never in the queue twice.
local function drop_cancelled(ids, now)
  end_items(ids, 'r', '', now)
  add('cancelled_places', -#ids)
  forget(now)
end

-- Returns ids, records, histories, and whether the search ended at its bound.
local function claim_items(now)
  local deadline = whole(math.floor(now / 1000) + tonumber(lease_ms))
  local ids, records = claimed_before()
  if #ids > 0 then
    permitted('ZADD', leases)
    call('ZADD', leases, 'XX', 'GT', deadline, claim_id) -- the client counts the lease from this call on
    return ids, records, histories_of(ids), false
  end
  if field.paused_claim then
    return {}, {}, {}, false
  end
  local used, cancelled, broken, more
  ids, records, used, cancelled, broken, more = oldest(tonumber(count))
  if used == 0 then
    return ids, records, {}, false
  end
  may_claim()
  local histories = histories_of(ids)
  if #cancelled > 0 then
    may_end_items()
  end
  if #broken > 0 then
    permitted('ZADD', dead)
    typed(dead, 'zset')
    typed(errors, 'hash')
  end
  if #cancelled > 0 then
    drop_cancelled(cancelled, now)
  end
  if #broken > 0 then
    bury_broken(broken, now)
  end
  -- The lease before the ids, the ids before the places leave the queue: what fails in between is delivered again.
  if #ids > 0 then
    hold_items(ids, deadline)
    note_claimed(ids, records, histories)
  end
  call('LTRIM', queued, whole(used), '-1')
  save()
  return ids, records, histories, more
end
