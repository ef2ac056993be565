#!lua
-- put_back: puts items into a live queue that has lost them, as a mirror knows them. What the queue knows, in whatever
-- state, is left as it is. Queued ones go to their place in the order where that is among the last of the queue, which
-- is where a failover loses items; else to the head, where they are late but not last. Members of a batch that is there
-- count in it again: put_back_batch comes before, and puts a batch that was lost with them.
-- Repeating it changes nothing more. A queue that is not there gets nothing: that is a rebuild's business.
-- Returns {'ok', epoch, indexes (from 0) of the items that it did not put: known already, or no such queue}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _where _place _turns _batch _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local errors = KEYS[5] -- hash: id -> last error
local checkpoints = KEYS[6] -- hash: id -> how far its work has come
local scheduled = KEYS[7] -- zset: id by due time in ms
local orphaned = KEYS[8] -- zset: id by the time it was set aside in ms
local dead = KEYS[9] -- zset: id by time of death in ms
local groups = KEYS[10] -- hash: id -> its group
local turns = KEYS[11] -- hash: group -> ids that have the turn
local members = KEYS[12] -- hash: id -> its batch
local batches = KEYS[13] -- hash: batch -> how far it is, and what follows
local waiting = KEYS[14] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[15] -- list: one token wakes one worker
local journal = KEYS[16] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: for each item nine, as lua/restore.lua has them

local FIELDS = 9
local TAIL = 1000 -- places that are looked at from the end of the queue

enter({ 'stamp', 'enqueued', 'waiting_bytes' })
local now = clock()
permitted('HSET', meta)
permitted('RPUSH', queued)
permitted('HSET', items)
permitted('HSET', errors)
permitted('HSET', checkpoints)
permitted('HSET', groups)
permitted('HSET', turns)
permitted('HDEL', turns)
permitted('HSET', members)
permitted('HSET', batches)
permitted('ZADD', scheduled)
permitted('ZADD', orphaned)
permitted('ZADD', dead)
may_place_at_head()
typed(errors, 'hash')
typed(checkpoints, 'hash')
typed(groups, 'hash')
typed(turns, 'hash')
typed(members, 'hash')
typed(batches, 'hash')
look_for_idle()

local ids, at, all = {}, {}, {}
for i = 3, #ARGV, FIELDS do
  ids[#ids + 1], at[#at + 1], all[#all + 1] = ARGV[i], i, #all
end
if known == '' then
  return { 'ok', known, all }
end
local states = states_of(ids)
local hashes = { [items] = {}, [attempts] = {}, [errors] = {}, [groups] = {}, [checkpoints] = {} }
local zsets = { scheduled = {}, orphaned = {}, dead = {} }
local keys = { scheduled = scheduled, orphaned = orphaned, dead = dead }
local there, missing, places, holders, joining, bytes = {}, {}, {}, {}, {}, 0

local function keep(key, id, value)
  if value ~= '' then
    table.insert(hashes[key], id)
    table.insert(hashes[key], value)
  end
end

local function sort_out(id, i)
  local _, state, record, history, time, reason, group, progress, batch = unpack(ARGV, i, i + FIELDS - 1)
  history = history ~= '' and history or write_history('q', 0, 0, 0, '')
  table.insert(missing, id)
  keep(items, id, record)
  keep(attempts, id, history)
  keep(errors, id, reason)
  keep(groups, id, group)
  keep(checkpoints, id, progress)
  change('stamp', math.max(number_of('stamp'), read_stamp(record) or 0))
  if group ~= '' and (state == 'orphaned' or state == 'scheduled' and read_history(history) > 0) then
    holders[group] = holders[group] or {}
    table.insert(holders[group], id)
  end
  if batch ~= '' then
    joining[batch] = joining[batch] or {}
    table.insert(joining[batch], id)
  end
  if state == 'queued' then
    table.insert(places, { id = id, record = record, history = history, stamp = read_stamp(record) or 0 })
  else
    table.insert(zsets[state], time)
    table.insert(zsets[state], id)
  end
  if state == 'queued' or state == 'scheduled' then
    bytes = bytes + #record
  end
end

-- The stamps of the last places: false for a cancelled one, and for one that is there out of its order.
local function stamps_of(tail)
  local records, histories = call('HMGET', items, unpack(tail)), call('HMGET', attempts, unpack(tail))
  local stamps = {}
  for i = 1, #tail do
    local in_order = records[i] and not histories[i] and not has_ended(records[i])
    stamps[i] = in_order and read_stamp(records[i]) or false
  end
  return stamps
end

-- Puts items, in the order of their stamps, among the last of the queue. Returns those whose place is further ahead.
local function place_near_the_tail(lost)
  local tail = call('LRANGE', queued, whole(-TAIL), '-1')
  local stamps, first = {}, nil
  if #tail > 0 then
    stamps = stamps_of(tail)
  end
  for i = 1, #tail do
    first = first or stamps[i]
  end
  local ahead, near = {}, {}
  for _, item in ipairs(lost) do
    local further = #tail == TAIL and first and item.stamp < first
    table.insert(further and ahead or near, item)
  end
  local from, merged, k = #tail + 1, {}, 1
  for i = 1, #tail do
    while near[k] and stamps[i] and near[k].stamp < stamps[i] do
      from = math.min(from, i)
      table.insert(merged, near[k].id)
      k = k + 1
    end
    if i >= from then
      table.insert(merged, tail[i])
    end
  end
  for i = k, #near do
    table.insert(merged, near[i].id)
  end
  if from <= #tail then
    call('LTRIM', queued, '0', whole(-(#tail - from + 2)))
  end
  if #merged > 0 then
    call('RPUSH', queued, unpack(merged))
  end
  return ahead
end

local function at_head(lost)
  local places_ahead, records, fields = {}, {}, {}
  for i, item in ipairs(lost) do
    places_ahead[i], records[i] = item.id, item.record
    fields[i * 2 - 1], fields[i * 2] = item.id, 'h' .. string.sub(item.history, 2)
  end
  if #lost > 0 then
    call('HSET', attempts, unpack(fields))
    place_at_head(places_ahead, records)
  end
end

-- The enqueue that was lost had counted them in the same step: so each counts once more, unless it is awaited still.
local function join_batch(name, ids_of_members)
  local condition, is_sealed, total, awaited = cold().read_batch(call('HGET', batches, 'b' .. name) or '')
  if not condition then
    return -- it is through, or its mirror does not know what follows it
  end
  local known_members, fields = call('HMGET', members, unpack(ids_of_members)), {}
  for i, id in ipairs(ids_of_members) do
    if not known_members[i] then
      fields[#fields + 1], fields[#fields + 2] = id, name
    end
  end
  if #fields > 0 then
    local n = #fields / 2
    call('HSET', batches, 'b' .. name, cold().write_batch(condition, is_sealed, total + n, awaited + n))
    call('HSET', members, unpack(fields))
  end
end

for k, i in ipairs(at) do
  if states[k] == '' then
    sort_out(ids[k], i)
  else
    there[#there + 1] = k - 1
  end
end
for key, fields in pairs(hashes) do
  if #fields > 0 then
    call('HSET', key, unpack(fields))
  end
end
for state, fields in pairs(zsets) do
  if #fields > 0 then
    call('ZADD', keys[state], unpack(fields))
  end
end
table.sort(places, function(a, b)
  return a.stamp < b.stamp
end)
at_head(place_near_the_tail(places))
for name, ids_of_members in pairs(joining) do
  join_batch(name, ids_of_members)
end
local names, limit = {}, number_of('group_limit', DEFAULT_GROUP_LIMIT)
for group in pairs(holders) do
  names[#names + 1] = group
end
for group, before in pairs(holders_of(names)) do -- who works meanwhile keeps the turn: one that comes late waits for it
  for _, id in ipairs(holders[group]) do
    if #before < limit then
      table.insert(before, id)
    end
  end
  holders[group] = before
end
keep_holders(holders)
if #hashes[groups] > 0 then
  change_extra('grouped', 1)
end
add('enqueued', #missing)
add('waiting_bytes', bytes)
touch(missing)
save()
wake_workers(#places, now)
return { 'ok', known, there }
