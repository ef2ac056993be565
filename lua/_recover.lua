-- needs: meta items queued claims leases attempts errors orphaned dead
-- uses: _stamp _ids _history _lease _place
-- Takes items back whose lease has ended. The queue's policy says where to; deliveries that never came back count
-- with failures against max_deliveries, so that an item that kills its worker ends among the dead.

local DEFAULT_MAX_DELIVERIES = 10
local DEFAULT_EXPIRY = 'requeue'

local function recover_writable()
  leases_writable()
  writable(queued, 'list', 'LPUSH')
  writable(attempts, 'hash', 'HSET')
  writable(errors, 'hash', 'HSET')
  writable(orphaned, 'zset', 'ZADD')
  writable(dead, 'zset', 'ZADD')
end

-- Takes `ids` out of a claim that has `left` afterwards.
local function recover_ids(receipt, ids, left, now, expiry, max_deliveries, moved)
  local records = call('HMGET', items, unpack(ids))
  local histories = call('HMGET', attempts, unpack(ids))
  local now_score = whole(math.floor(now / 1000))
  local back, back_records, aside, buried, updates, reasons = {}, {}, {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local taken, failures, expiries = read_history(histories[i])
    expiries = expiries + 1
    updates[i * 2 - 1], updates[i * 2] = id, write_history('q', taken + 1, failures, expiries, '')
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
  place_at_head(back, back_records)
  if #aside > 0 then
    call('ZADD', orphaned, unpack(aside))
  end
  if #buried > 0 then
    call('HSET', errors, unpack(reasons))
    call('ZADD', dead, unpack(buried))
  end
  keep_claim(receipt, left, #ids)
end

-- Recovers up to `bound` items. Returns how many went where.
local function recover_expired(bound, now, expiry, max_deliveries)
  local moved = { requeued = 0, orphaned = 0, dead = 0, unreadable = 0 }
  local now_score = whole(math.floor(now / 1000))
  local expired = call('ZRANGE', leases, '-inf', now_score, 'BYSCORE', 'LIMIT', '0', whole(bound))
  if #expired == 0 then
    return moved
  end
  recover_writable()
  expiry = expiry or DEFAULT_EXPIRY
  max_deliveries = tonumber(max_deliveries) or DEFAULT_MAX_DELIVERIES
  for _, receipt in ipairs(expired) do
    local ids = unpack_ids(call('HGET', claims, receipt) or '', 1)
    local left = pack_ids({ unpack(ids, bound + 1) })
    ids = { unpack(ids, 1, bound) }
    if #ids > 0 then
      recover_ids(receipt, ids, left, now, expiry, max_deliveries, moved)
    else
      keep_claim(receipt, '', 0)
    end
    bound = bound - #ids
    if bound <= 0 then
      break
    end
  end
  return moved
end
