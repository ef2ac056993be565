-- needs: meta items queued claims leases attempts errors orphaned dead
-- uses: _defaults _lease _place _after _journal
-- cold
-- Takes items back whose lease has ended. The queue's policy says where to; deliveries that never came back count
-- with failures against max_deliveries, so that an item that kills its worker ends among the dead.

-- Asks for what a recovery writes. Leases and claims are read before, items and attempts for every claim.
local function may_recover()
  may_keep_claims()
  may_place_at_head()
  permitted('ZADD', orphaned)
  permitted('HGET', claims)
  typed(claims, 'hash')
  typed(errors, 'hash')
  typed(orphaned, 'zset')
  typed(dead, 'zset')
  offered.may_go_on()
end

-- Finds a place for `ids`, which stand in an expired claim until all places of the call are made. Those that go back to
-- the queue are added to `back` and `back_records`, those that died to `died`.
local function recover_ids(ids, now, expiry, max_deliveries, moved, back, back_records, died)
  local records = call('HMGET', items, unpack(ids))
  local histories = call('HMGET', attempts, unpack(ids))
  local now_score = whole(math.floor(now / 1000))
  local aside, buried, updates, reasons = {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local taken, failures, expiries = read_history(histories[i])
    expiries = expiries + 1
    updates[i * 2 - 1], updates[i * 2] = id, write_history('h', taken + 1, failures, expiries, '')
    local stamp = records[i] and #records[i] > STAMP_BYTES and read_stamp(records[i])
    local reason = nil
    if not stamp then
      reason = 'its record is missing or unreadable'
      moved.unreadable = moved.unreadable + 1
    elseif expiry == 'dead' then
      reason = 'its lease expired'
    elseif failures + expiries >= max_deliveries then
      reason = 'its lease expired, and all ' .. whole(max_deliveries) .. ' deliveries are used up'
    end
    if reason then
      buried[#buried + 1], buried[#buried + 2] = now_score, id
      died[#died + 1] = id
      reasons[#reasons + 1], reasons[#reasons + 2] = id, reason
      moved.dead = moved.dead + (stamp and 1 or 0)
    elseif expiry == 'hold' then
      aside[#aside + 1], aside[#aside + 2] = now_score, id
      moved.orphaned = moved.orphaned + 1
    else
      back[#back + 1], back_records[#back + 1] = id, records[i]
      moved.requeued = moved.requeued + 1
    end
  end
  call('HSET', attempts, unpack(updates))
  touch(ids)
  if #aside > 0 then
    call('ZADD', orphaned, unpack(aside))
  end
  if #buried > 0 then
    call('HSET', errors, unpack(reasons))
    call('ZADD', dead, unpack(buried))
  end
end

-- Takes up to `bound` items back of claims that have ended. Returns how many went where, and how many workers have
-- something to do by the dead.
function offered.recover_claims(expired, bound, now)
  local moved = { requeued = 0, orphaned = 0, dead = 0, unreadable = 0, wakes = 0 }
  may_recover()
  local expiry = field.expiry or DEFAULT_EXPIRY
  local max_deliveries = number_of('max_deliveries', DEFAULT_MAX_DELIVERIES)
  local back, back_records, settled, died = {}, {}, {}, {}
  for _, receipt in ipairs(expired) do
    local ids = unpack_ids(call('HGET', claims, receipt) or '', 1)
    local left = pack_ids({ unpack(ids, bound + 1) })
    ids = { unpack(ids, 1, bound) }
    if #ids > 0 then
      recover_ids(ids, now, expiry, max_deliveries, moved, back, back_records, died)
    end
    settled[#settled + 1] = { receipt, left, #ids }
    bound = bound - #ids
    if bound <= 0 then
      break
    end
  end
  place_at_head(back, back_records) -- all at once: the items of several claims go back in one order
  for _, claim in ipairs(settled) do
    keep_claim(unpack(claim))
  end
  add('waiting_bytes', weight(back_records))
  if #died > 0 then
    moved.wakes = offered.go_on_after(died, 'dead', now)
  end
  save()
  return moved
end
