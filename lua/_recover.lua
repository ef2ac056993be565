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
local function recover_ids(receipt, ids, left, now, expiry, max_deliveries, count)
  local records = call('HMGET', items, unpack(ids))
  local histories = call('HMGET', attempts, unpack(ids))
  local now_score = whole(math.floor(now / 1000))
  local back, aside, buried, updates, reasons = {}, {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local taken, failures, expiries = read_history(histories[i])
    expiries = expiries + 1
    updates[i * 2 - 1], updates[i * 2] = id, write_history('q', taken + 1, failures, expiries, '')
    local stamp = records[i] and read_stamp(records[i])
    local reason = nil
    if not stamp then
      reason = 'its record is missing or unreadable'
      count.unreadable = count.unreadable + 1
    elseif expiry == 'dead' then
      reason = 'its lease expired'
    elseif failures + expiries >= max_deliveries then
      reason = 'its lease expired, and all ' .. whole(max_deliveries) .. ' deliveries are used up'
    end
    if reason then
      buried[#buried + 1], buried[#buried + 2] = now_score, id
      reasons[#reasons + 1], reasons[#reasons + 2] = id, reason
      count.dead = count.dead + (stamp and 1 or 0)
    elseif expiry == 'hold' then
      aside[#aside + 1], aside[#aside + 2] = now_score, id
      count.orphaned = count.orphaned + 1
    else
      back[#back + 1] = { id = id, stamp = stamp }
      count.requeued = count.requeued + 1
    end
  end
  call('HSET', attempts, unpack(updates))
  place_at_head(back)
  if #aside > 0 then
    call('ZADD', orphaned, unpack(aside))
  end
  if #buried > 0 then
    call('HSET', errors, unpack(reasons))
    call('ZADD', dead, unpack(buried))
  end
  keep_claim(receipt, left, #ids)
end

-- Recovers up to `limit` items. Returns how many went where.
local function recover_expired(limit, now, expiry, max_deliveries)
  local count = { requeued = 0, orphaned = 0, dead = 0, unreadable = 0 }
  local now_score = whole(math.floor(now / 1000))
  local expired = call('ZRANGE', leases, '-inf', now_score, 'BYSCORE', 'LIMIT', '0', whole(limit))
  if #expired == 0 then
    return count
  end
  recover_writable()
  expiry = expiry or DEFAULT_EXPIRY
  max_deliveries = tonumber(max_deliveries) or DEFAULT_MAX_DELIVERIES
  for _, receipt in ipairs(expired) do
    local ids = unpack_ids(call('HGET', claims, receipt) or '', 1)
    local left = pack_ids({ unpack(ids, limit + 1) })
    ids = { unpack(ids, 1, limit) }
    if #ids > 0 then
      recover_ids(receipt, ids, left, now, expiry, max_deliveries, count)
    else
      keep_claim(receipt, '', 0)
    end
    limit = limit - #ids
    if limit <= 0 then
      break
    end
  end
  return count
end
