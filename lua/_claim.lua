-- needs: claim_id count lease_ms meta items queued claims leases attempts errors dead finished_order groups checkpoints
-- uses: _history _lease _skip _limits _producers _after _journal
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

-- Looks at the head of the queue for up to `wanted` items. Returns what it saw: ids and records to claim, their
-- `bytes`, and how many places it `used`; among these, as lists or nil, the `cancelled` ids, the `broken` ones without
-- a readable record, and those to be `parked`, because their group has no turn left; and `more` where it skipped so
-- many that it stopped.
local SKIP = 1000

local function note_skipped(seen, kind, id)
  seen[kind] = seen[kind] or {}
  table.insert(seen[kind], id)
end

local function skip(seen, id, record, i)
  if not record or #record <= STAMP_BYTES then
    note_skipped(seen, 'broken', id)
    seen.bytes = seen.bytes + (record and #record or 0)
  elseif has_ended(record) then
    note_skipped(seen, 'cancelled', id)
  else
    note_skipped(seen, 'parked', id)
    note_skipped(seen, 'parked_groups', seen.giver.of[i])
    note_skipped(seen, 'parked_records', record)
  end
end

local function look_at_head(wanted)
  local seen = { ids = {}, records = {}, bytes = 0, giver = field.grouped and cold().turn_giver() }
  local ids, records, giver, n, used, bytes = seen.ids, seen.records, seen.giver, 0, 0, 0
  local ask = wanted
  while n < wanted and used - n < SKIP do
    local page = call('LRANGE', queued, whole(used), whole(used + ask - 1))
    if #page == 0 then
      break
    end
    local found = call('HMGET', items, unpack(page))
    if giver then
      giver.look(page)
    end
    for i = 1, #page do
      local record = found[i]
      local good = record and #record > STAMP_BYTES and byte(record) ~= ENDED
      if good and (not giver or giver.give(i, page[i])) then
        n = n + 1
        ids[n], records[n] = page[i], record
        bytes = bytes + #record
      else
        skip(seen, page[i], record, i)
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
  seen.used, seen.bytes, seen.more = used, seen.bytes + bytes, n < wanted and used - n >= SKIP
  return seen
end

local function hold_items(ids, deadline)
  call('ZADD', leases, deadline, claim_id)
  call('HSET', claims, claim_id, pack_ids(ids))
  add('in_progress', #ids)
  touch(ids)
end

local function histories_of(ids)
  if #ids == 0 or call('EXISTS', attempts) == 0 then
    return {}
  end
  return call('HMGET', attempts, unpack(ids))
end

-- What goes to the client beside the records: histories, groups and checkpoints, each empty where there are none.
local function beside(ids, histories)
  if #ids == 0 then
    return {}, {}, {}
  end
  local redelivered = false
  for i = 1, #ids do
    redelivered = redelivered or histories[i]
  end
  return histories,
    field.grouped and call('HMGET', groups, unpack(ids)) or {},
    redelivered and call('HMGET', checkpoints, unpack(ids)) or {}
end

-- The items of this claim, and where there are none what to do next: `more`, ask again at once; `wait`, ms until the
-- limits allow one; `wakes`, workers that have something to do by what was passed over.
local function claim_items(now)
  local deadline = whole(math.floor(now / 1000) + tonumber(lease_ms))
  local ids, records = claimed_before()
  if #ids > 0 then
    permitted('ZADD', leases)
    call('ZADD', leases, 'XX', 'GT', deadline, claim_id) -- the client counts the lease from this call on
    return { ids = ids, records = records, histories = histories_of(ids), wakes = 0 }
  end
  local wanted, wait = tonumber(count), nil
  if extras then
    wanted, wait = cold().within_limits(wanted, now)
  end
  if field.paused_claim or wanted < 1 then
    return { ids = {}, records = {}, histories = {}, wait = wait, wakes = 0 }
  end
  local seen = look_at_head(wanted)
  if seen.used == 0 then
    return { ids = {}, records = {}, histories = {}, wakes = 0 }
  end
  ids = seen.ids
  local skipped = #ids < seen.used or seen.giver
  may_claim()
  local histories = histories_of(ids)
  if extras then
    cold().may_tell_producers()
  end
  if skipped then
    cold().may_settle_skipped(seen)
  end
  -- The lease before the ids, the ids before the places leave the queue: what fails in between is delivered again.
  if #ids > 0 then
    hold_items(ids, deadline)
    note_claimed(ids, seen.records, histories)
  end
  if skipped then
    cold().settle_skipped(seen, now)
  end
  call('LTRIM', queued, whole(seen.used), '-1')
  add('waiting_bytes', -seen.bytes)
  local wakes = seen.broken and cold().go_on_after(seen.broken, 'dead', now) or 0
  if extras then
    cold().note_rate(#ids, now)
    cold().tell_producers(seen.used - #(seen.parked or {}), now)
  end
  save()
  return { ids = ids, records = seen.records, histories = histories, more = seen.more, wakes = wakes }
end
