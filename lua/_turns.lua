-- needs: groups turns
-- uses: _defaults _stamp _ids _history
-- Items of one group are handled in their order and `group_limit` (1) at a time. The items in progress, and those that
-- will be again before others of their group, have the turn: `turns` has their packed ids by group. An item whose group
-- has no turn left when it comes to the head of the queue is parked, and the rest of the queue goes on. `parked` is in
-- the order of group and stamp: length of the group's name in one byte, name, stamp, id.
--
-- An item keeps the turn while it is released, retried or orphaned, and passes it on when it ends or dies. One queue of
-- a million groups costs a claim no more than one of two: every question is one look-up.

local function parked_prefix(group)
  return char(#group) .. group
end

local function parked_member(group, record, id)
  return parked_prefix(group) .. string.sub(record, 1, STAMP_BYTES) .. id
end

local function parked_id(member)
  return string.sub(member, 2 + byte(member) + STAMP_BYTES)
end

-- Who has the turn in each group among `names`, as lists of ids.
local function holders_of(names)
  local holders = {}
  if #names > 0 then
    for i, packed in ipairs(call('HMGET', turns, unpack(names))) do
      holders[names[i]] = packed and unpack_ids(packed, 1) or {}
    end
  end
  return holders
end

-- The groups of ids by index (false where there is none), and the names that occur.
local function groups_of(ids)
  local of, names, seen = call('HMGET', groups, unpack(ids)), {}, {}
  for i = 1, #ids do
    if of[i] and not seen[of[i]] then
      seen[of[i]] = true
      names[#names + 1] = of[i]
    end
  end
  return of, names
end

local function keep_holders(holders)
  local fields, gone = {}, {}
  for group, ids in pairs(holders) do
    if #ids > 0 then
      fields[#fields + 1], fields[#fields + 2] = group, pack_ids(ids)
    else
      gone[#gone + 1] = group
    end
  end
  if #fields > 0 then
    call('HSET', turns, unpack(fields))
  end
  if #gone > 0 then
    call('HDEL', turns, unpack(gone))
  end
end

local function index_of(ids, id)
  for i = 1, #ids do
    if ids[i] == id then
      return i
    end
  end
  return nil
end
