#!lua flags=allow-oom
-- purge: removes up to `limit` items of one state, oldest first, and forgets their ids. Items in progress stay.
-- Repeating it removes the next ones.
-- Returns {'ok', epoch, how many it removed, 1 where there may be more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _ids _history _end
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local errors = KEYS[8] -- hash: id -> last error
local finished_order = KEYS[9] -- list: stamp and ids that ended together, oldest left
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local state = ARGV[3] -- 'queued', 'scheduled', 'orphaned', 'dead' or 'finished' (forgets ended ids)
local limit = ARGV[4] -- items at most, 1 to 1000

enter({ 'removed', 'cancelled_places', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms' })
local zsets = { scheduled = scheduled, orphaned = orphaned, dead = dead }
local bound = tonumber(limit)
may_end_items()
permitted('LTRIM', queued)
typed(queued, 'list')

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

local function purge_queued()
  local ids = call('LRANGE', queued, '0', whole(bound - 1))
  if #ids == 0 then
    return 0, 0
  end
  local removed, cancelled = {}, {}
  for i, record in ipairs(call('HMGET', items, unpack(ids))) do
    local into = record and has_ended(record) and cancelled or removed
    into[#into + 1] = record and ids[i] or nil
  end
  if #removed > 0 then
    call('HDEL', items, unpack(removed))
    drop_history(removed)
  end
  if #cancelled > 0 then -- they ended before, and their ids stay known
    local now = clock()
    end_items(cancelled, 'r', '', now)
    add('cancelled_places', -#cancelled)
    forget(now)
  end
  call('LTRIM', queued, whole(#ids), '-1')
  return #removed, #ids == bound and 1 or 0
end

local function purge_zset(key)
  permitted('ZREM', key)
  typed(key, 'zset')
  local ids = call('ZRANGE', key, '0', whole(bound - 1))
  if #ids > 0 then
    call('HDEL', items, unpack(ids))
    drop_history(ids)
    call('ZREM', key, unpack(ids))
  end
  return #ids, #ids == bound and 1 or 0
end

local removed, more
if state == 'finished' then
  removed, more = purge_ended()
elseif state == 'queued' then
  removed, more = purge_queued()
  add('removed', removed)
else
  removed, more = purge_zset(zsets[state])
  add('removed', removed)
end
save()
return { 'ok', known, removed, more }
