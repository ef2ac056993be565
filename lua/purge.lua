#!lua flags=allow-oom
-- purge: removes up to `limit` items of one state, oldest first, and forgets their ids. Items in progress stay.
-- Repeating it removes the next ones.
-- Returns {'ok', epoch, how many it removed, 1 where there may be more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _end _place _turns _after _producers _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local errors = KEYS[8] -- hash: id -> last error
local finished_order = KEYS[9] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[10] -- hash: id -> how far its work has come
local waiting = KEYS[11] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[12] -- list: one token wakes one worker
local groups = KEYS[13] -- hash: id -> its group
local turns = KEYS[14] -- hash: group -> ids that have the turn
local parked = KEYS[15] -- zset: items that wait for the turn of their group
local members = KEYS[16] -- hash: id -> its batch
local batches = KEYS[17] -- hash: batch -> how far it is, and what follows
local watched = KEYS[18] -- zset: id that somebody waits for, by the end of the wait in ms
local producers = KEYS[19] -- zset: producer that waits for room, by the end of its wait in ms
local room = KEYS[20] -- list: one token lets one producer try again
local journal = KEYS[21] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local state = ARGV[3] -- 'queued', 'scheduled', 'orphaned', 'dead' or 'finished' (forgets ended ids)
local limit = ARGV[4] -- items at most, 1 to 1000

enter({
  'removed', 'cancelled_places', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'waiting_bytes',
  'stamp', 'enqueued',
})
local zsets = { scheduled = scheduled, orphaned = orphaned, dead = dead }
local bound = tonumber(limit)
may_end_items()
cold().may_go_on()
cold().may_tell_producers()
permitted('LTRIM', queued)
typed(queued, 'list')
local now = clock()

local function purge_ended()
  local oldest = call('LINDEX', finished_order, '0')
  if not oldest then
    return 0, 0
  end
  local ids = unpack_ids(oldest, 7)
  call('HDEL', items, unpack(ids))
  call('LPOP', finished_order)
  add('remembered', -#ids)
  return #ids, 1
end

-- Removes records and what goes with them, their places before the next of a group may come to the head. Returns how
-- many items that were.
local function purge_items(ids, bytes, drop_places)
  if #ids > 0 then
    call('HDEL', items, unpack(ids))
    drop_history(ids)
    touch(ids)
    add('waiting_bytes', -bytes)
  end
  drop_places()
  if #ids > 0 then
    wake_workers(cold().go_on_after(ids, 'removed', now), now)
  end
  return #ids
end

local function purge_list(ids)
  local removed, cancelled, bytes = {}, {}, 0
  for i, record in ipairs(call('HMGET', items, unpack(ids))) do
    if record and has_ended(record) then
      cancelled[#cancelled + 1] = ids[i]
    elseif record then
      removed[#removed + 1] = ids[i]
      bytes = bytes + #record
    end
  end
  if #cancelled > 0 then -- they ended before, and their ids stay known
    end_passed(cancelled, now)
  end
  return purge_items(removed, bytes, function()
    call('LTRIM', queued, whole(#ids), '-1')
  end), 1
end

-- Those that wait for the turn of their group.
local function purge_parked()
  local found = field.grouped and call('ZRANGE', parked, '0', whole(bound - 1)) or {}
  if #found == 0 then
    return 0, 0
  end
  local ids = {}
  for i, member in ipairs(found) do
    ids[i] = parked_id(member)
  end
  return purge_items(ids, weight(call('HMGET', items, unpack(ids))), function()
    call('ZREM', parked, unpack(found))
  end), 1
end

local function purge_queued()
  local ids = call('LRANGE', queued, '0', whole(bound - 1))
  if #ids == 0 then
    return purge_parked()
  end
  return purge_list(ids)
end

local function purge_zset(key)
  permitted('ZREM', key)
  typed(key, 'zset')
  local ids = call('ZRANGE', key, '0', whole(bound - 1))
  if #ids > 0 then
    local waits = key == scheduled and weight(call('HMGET', items, unpack(ids))) or 0
    purge_items(ids, waits, function()
      call('ZREM', key, unpack(ids))
    end)
  end
  return #ids, #ids == bound and 1 or 0
end

local removed, more
if state == 'finished' then
  removed, more = purge_ended()
else
  if state == 'queued' then
    removed, more = purge_queued()
  else
    removed, more = purge_zset(zsets[state])
  end
  add('removed', removed)
  cold().tell_producers(removed, now)
end
save()
return { 'ok', known, removed, more }
