-- needs: meta items queued attempts groups turns parked
-- uses: _place _turns
-- cold
-- The other side of groups: an item that has ended or died passes its turn to the next one of its group that is parked,
-- which goes to the head of the queue: everything behind it there was enqueued later.

local function may_pass_turns()
  if field.grouped then
    permitted('HSET', turns)
    permitted('HDEL', turns)
    permitted('HDEL', groups)
    permitted('ZREM', parked)
    permitted('ZRANGE', parked)
    permitted('HMGET', groups)
    permitted('HMGET', turns)
    typed(groups, 'hash')
    typed(turns, 'hash')
    typed(parked, 'zset')
    may_place_at_head()
  end
end

-- The first parked items of a group, `most` at most.
local function next_parked(group, most)
  local prefix = parked_prefix(group)
  -- no stamp begins with the byte 255, so this is the end of the group
  return call('ZRANGE', parked, '[' .. prefix, '(' .. prefix .. char(ENDED), 'BYLEX', 'LIMIT', '0', whole(most))
end

local function unpark(places)
  if #places == 0 then
    return
  end
  local ids = {}
  for i, member in ipairs(places) do
    ids[i] = parked_id(member)
  end
  local histories, fields = call('HMGET', attempts, unpack(ids)), {}
  for i, id in ipairs(ids) do
    local history = histories[i] or write_history('h', 0, 0, 0, '')
    fields[i * 2 - 1], fields[i * 2] = id, 'h' .. string.sub(history, 2)
  end
  call('HSET', attempts, unpack(fields))
  place_at_head(ids, call('HMGET', items, unpack(ids)))
  call('ZREM', parked, unpack(places))
end

-- Takes ids off the holders of their groups. Returns the groups that have turns to give, and how many: two for one
-- that was given up, where `group_limit` was raised meanwhile.
local function give_up(ids, of, holders)
  local allowed, free = number_of('group_limit', DEFAULT_GROUP_LIMIT), {}
  for i = 1, #ids do
    local held = of[i] and holders[of[i]]
    local at = held and index_of(held, ids[i])
    if at then
      table.remove(held, at)
      free[of[i]] = (free[of[i]] or 0) + 2
    end
  end
  for group, most in pairs(free) do
    free[group] = math.max(0, math.min(most, allowed - #holders[group]))
  end
  return free
end

-- Passes on the turns that `ids` have. `gone`: they have ended, so their groups are forgotten as well. Asks for the
-- fields grouped and group_limit; the caller has asked may_pass_turns. Returns how many items may be claimed now.
local function pass_turns(ids, gone)
  if not field.grouped or #ids == 0 then
    return 0
  end
  local of, names = groups_of(ids)
  if #names == 0 then
    return 0
  end
  local holders, freed = holders_of(names), {}
  local free = give_up(ids, of, holders)
  for group, most in pairs(free) do
    for _, member in ipairs(next_parked(group, most)) do
      freed[#freed + 1] = member
      table.insert(holders[group], parked_id(member))
    end
  end
  keep_holders(holders)
  unpark(freed)
  if gone then
    call('HDEL', groups, unpack(ids))
  end
  return #freed
end

-- Takes items that wait for a turn out of `parked`. The records are those from before they ended.
function offered.drop_parked(ids, records)
  local of, places = call('HMGET', groups, unpack(ids)), {}
  for i, id in ipairs(ids) do
    places[i] = of[i] and parked_member(of[i], records[i], id)
  end
  call('ZREM', parked, unpack(places))
end
