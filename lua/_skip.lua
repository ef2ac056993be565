-- needs: attempts dead errors
-- uses: _end _park _after _journal
-- cold
-- What a claim passes over at the head of the queue: cancelled places, unreadable items, and those that are to wait for
-- the turn of their group.

-- Asks, before the first write, for everything that `settle_skipped` may do.
function offered.may_settle_skipped(seen)
  if seen.cancelled then
    may_end_items()
  end
  if seen.broken then
    permitted('ZADD', dead)
    typed(dead, 'zset')
    typed(errors, 'hash')
    offered.may_go_on()
  end
  if seen.giver then
    offered.may_park()
  end
end

-- Items whose record is missing or cut off are not dropped in silence: they go to the dead, where people look.
local function bury_broken(ids, now)
  local buried, reasons = {}, {}
  for i, id in ipairs(ids) do
    buried[i * 2 - 1], buried[i * 2] = whole(math.floor(now / 1000)), id
    reasons[i * 2 - 1], reasons[i * 2] = id, 'its record is missing or unreadable'
  end
  call('ZADD', dead, unpack(buried))
  touch(ids)
  call('HSET', errors, unpack(reasons))
end

-- Puts what was passed over where it belongs.
function offered.settle_skipped(seen, now)
  if seen.cancelled then
    end_passed(seen.cancelled, now)
  end
  if seen.parked then
    offered.park_items(seen.parked, seen.parked_groups, seen.parked_records)
  end
  if seen.broken then
    bury_broken(seen.broken, now)
  end
  if seen.giver then
    keep_holders(seen.giver.taken)
  end
end
