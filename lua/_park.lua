-- needs: groups turns parked attempts
-- uses: _turns
-- cold
-- The claim's side of groups: who may go now, and who waits for the turn.

function offered.may_park()
  permitted('HSET', turns)
  permitted('HSET', attempts)
  permitted('ZADD', parked)
  typed(parked, 'zset')
end

-- Gives turns to the items of a claim, page by page. `of` has the groups of the page that was looked at last.
function offered.turn_giver()
  local giver = { of = {}, holders = {}, taken = {} }
  local limit = number_of('group_limit', DEFAULT_GROUP_LIMIT)

  function giver.look(page)
    local of, names = groups_of(page)
    local unseen = {}
    giver.of = of
    for _, name in ipairs(names) do
      unseen[#unseen + 1] = not giver.holders[name] and name or nil
    end
    for name, holders in pairs(holders_of(unseen)) do
      giver.holders[name] = holders
    end
  end

  -- Whether the item at this index of the page may go.
  function giver.give(i, id)
    local group = giver.of[i]
    local holders = giver.holders[group]
    if not group or index_of(holders, id) then
      return true
    end
    if #holders >= limit then
      return false
    end
    table.insert(holders, id)
    giver.taken[group] = holders
    return true
  end

  return giver
end

-- Parks items: three lists that run beside each other.
function offered.park_items(ids, names, records)
  local histories = call('HMGET', attempts, unpack(ids))
  local places, fields = {}, {}
  for i, id in ipairs(ids) do
    places[i * 2 - 1], places[i * 2] = '0', parked_member(names[i], records[i], id)
    local history = histories[i] or write_history('w', 0, 0, 0, '')
    fields[i * 2 - 1], fields[i * 2] = id, 'w' .. string.sub(history, 2)
  end
  call('HSET', attempts, unpack(fields))
  call('ZADD', parked, unpack(places))
end
