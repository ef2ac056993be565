#!lua flags=allow-oom
-- restore: puts items into a queue that is being rebuilt, behind those that are there. What the queue has already is
-- left as it is, so that a rebuild that was broken off can be run again. They come in the order of their stamps.
-- Returns {'ok', epoch, how many it put}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _ids _history _turns
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local errors = KEYS[5] -- hash: id -> last error
local finished_order = KEYS[6] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[7] -- hash: id -> how far its work has come
local scheduled = KEYS[8] -- zset: id by due time in ms
local orphaned = KEYS[9] -- zset: id by the time it was set aside in ms
local dead = KEYS[10] -- zset: id by time of death in ms
local groups = KEYS[11] -- hash: id -> its group
local turns = KEYS[12] -- hash: group -> ids that have the turn
local members = KEYS[13] -- hash: id -> its batch
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local rebuild_id = ARGV[3] -- the one that the rebuild was begun with
-- ARGV[4...]: for each item nine: id, state, record or end marker, history, time in ms, error, group, checkpoint,
--   batch; what there is none of is ''

enter({ 'rebuild_id', 'state', 'stamp', 'enqueued', 'finished', 'removed', 'remembered', 'waiting_bytes' }, true)
if field.rebuild_id ~= rebuild_id or field.state ~= 'rebuilding' then
  refuse('REBUILDING', known)
end
permitted('HSET', meta)
permitted('HDEL', turns)
permitted('RPUSH', queued)
permitted('ZADD', scheduled)
for _, key in ipairs({ items, attempts, errors, checkpoints, groups, turns, members }) do
  typed(key, 'hash')
end
for _, key in ipairs({ scheduled, orphaned, dead }) do
  typed(key, 'zset')
end
typed(queued, 'list')
typed(finished_order, 'list')

local FIELDS = 9
local ids, at = {}, {}
for i = 4, #ARGV, FIELDS do
  ids[#ids + 1], at[#ids + 1] = ARGV[i], i
end
local found = call('HMGET', items, unpack(ids))
local hashes = {
  [items] = {}, [attempts] = {}, [errors] = {}, [groups] = {}, [checkpoints] = {}, [members] = {},
}
local zsets = { [scheduled] = {}, [orphaned] = {}, [dead] = {} }
local by_state = { scheduled = scheduled, orphaned = orphaned, dead = dead }
local places, ended, holders, put = {}, {}, {}, 0
local now_ended = { finished = 0, removed = 0 }
local stamp, bytes = number_of('stamp'), 0

local function keep(key, id, value)
  if value ~= '' then
    local fields = hashes[key]
    local n = #fields
    fields[n + 1], fields[n + 2] = id, value
  end
end

-- Those that will be claimed again before others of their group may have the turn.
local function keep_turn(id, state, history, group)
  local taken = read_history(history ~= '' and history)
  if state == 'orphaned' or state == 'scheduled' and taken > 0 then
    holders[group] = holders[group] or {}
    table.insert(holders[group], id)
  end
end

-- What most items have none of.
local function restore_rest(id, state, history, reason, group, progress, batch)
  keep(attempts, id, history)
  keep(errors, id, reason)
  keep(groups, id, group)
  keep(checkpoints, id, progress)
  keep(members, id, batch)
  if group ~= '' then
    keep_turn(id, state, history, group)
  end
end

local function restore_item(i)
  local id, state, record, history, time, reason, group, progress, batch = unpack(ARGV, i, i + FIELDS - 1)
  put = put + 1
  keep(items, id, record)
  if now_ended[state] then
    ended[#ended + 1] = id
    now_ended[state] = now_ended[state] + 1
    return
  end
  if #history + #reason + #group + #progress + #batch > 0 then
    restore_rest(id, state, history, reason, group, progress, batch)
  end
  stamp = math.max(stamp, read_stamp(record) or 0)
  if state == 'queued' or state == 'scheduled' then
    bytes = bytes + #record
  end
  if state == 'queued' then
    places[#places + 1] = id
  else
    table.insert(zsets[by_state[state]], time)
    table.insert(zsets[by_state[state]], id)
  end
end

-- Once for all items: `add` formats a number, which is not to be done for each of them.
local function count(name, amount)
  if amount > 0 then
    add(name, amount)
  end
end

for k, i in ipairs(at) do
  if not found[k] then
    restore_item(i)
  end
end
count('stamp', stamp - number_of('stamp'))
count('enqueued', put)
count('waiting_bytes', bytes)
count('finished', now_ended.finished)
count('removed', now_ended.removed)
for key, fields in pairs(hashes) do
  if #fields > 0 then
    call('HSET', key, unpack(fields))
  end
end
for key, fields in pairs(zsets) do
  if #fields > 0 then
    call('ZADD', key, unpack(fields))
  end
end
if #places > 0 then
  call('RPUSH', queued, unpack(places))
end
if #ended > 0 then
  local last = string.sub(hashes[items][#hashes[items]], 2, 7) -- none is forgotten before its time
  call('RPUSH', finished_order, last .. pack_ids(ended))
  add('remembered', #ended)
end
local names = {}
for group in pairs(holders) do
  names[#names + 1] = group
end
local limit = number_of('group_limit', DEFAULT_GROUP_LIMIT)
for group, before in pairs(holders_of(names)) do -- the first ones: what stands behind them waits for their turn
  for _, id in ipairs(holders[group]) do
    if #before < limit then
      table.insert(before, id)
    end
  end
  holders[group] = before
end
keep_holders(holders)
if #hashes[groups] > 0 then
  change('grouped', 1)
end
if #hashes[members] > 0 then
  change('batched', 1)
end
save()
return { 'ok', known, put }
