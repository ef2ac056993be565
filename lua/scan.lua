#!lua flags=no-writes
-- scan: a page of the ids in one state. The sorted states (scheduled, orphaned, dead) go on behind the last id seen, so
-- that nothing is missed when what was seen has left. The others go on at a position: what moves may be missed.
-- Returns {'ok', epoch, ids, cursor for the next page ('' at the end)}.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
-- uses: _turns
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local scheduled = KEYS[7] -- zset: id by due time in ms
local orphaned = KEYS[8] -- zset: id by the time it was set aside in ms
local dead = KEYS[9] -- zset: id by time of death in ms
local finished_order = KEYS[10] -- list: stamp and ids that ended together, oldest left
local groups = KEYS[11] -- hash: id -> its group
local turns = KEYS[12] -- hash: group -> ids that have the turn
local parked = KEYS[13] -- zset: items that wait for the turn of their group
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local state = ARGV[3] -- state to look through
local cursor = ARGV[4] -- '' from the start, or what the page before returned
local limit = ARGV[5] -- ids at most, 1 to 1000

enter({}, true)
local bound = tonumber(limit)
local zsets = { scheduled = scheduled, orphaned = orphaned, dead = dead }

-- The cursor is the last score and id. Where that id has left, its place is found by the score.
local function scan_zset(key)
  local start = 0
  if cursor ~= '' then
    local score, last = string.match(cursor, '^(%S+) (.*)$')
    local rank = call('ZRANK', key, last)
    start = rank and rank + 1 or call('ZCOUNT', key, '-inf', '(' .. score)
    while not rank do
      local next_id = call('ZRANGE', key, whole(start), whole(start), 'WITHSCORES')
      if not next_id[1] or next_id[2] ~= score or next_id[1] > last then
        break
      end
      start = start + 1
    end
  end
  local page = call('ZRANGE', key, whole(start), whole(start + bound - 1), 'WITHSCORES')
  local ids = {}
  for i = 1, #page, 2 do
    ids[#ids + 1] = page[i]
  end
  return ids, #ids == bound and page[#page] .. ' ' .. page[#page - 1] or ''
end

-- Those that wait for the turn of their group come last, behind the cursor 'p' and the last one seen.
local function scan_parked()
  local from = #cursor > 1 and '(' .. string.sub(cursor, 2) or '-'
  local page = call('ZRANGE', parked, from, '+', 'BYLEX', 'LIMIT', '0', whole(bound))
  local ids = {}
  for i, member in ipairs(page) do
    ids[i] = parked_id(member)
  end
  return ids, #page == bound and 'p' .. page[#page] or ''
end

local function scan_queued()
  if string.sub(cursor, 1, 1) == 'p' then
    return scan_parked()
  end
  local start = tonumber(cursor) or 0
  local page = call('LRANGE', queued, whole(start), whole(start + bound - 1))
  local ids = {}
  if #page > 0 then
    local records = call('HMGET', items, unpack(page))
    for i = 1, #page do
      if records[i] and byte(records[i]) ~= ENDED then
        ids[#ids + 1] = page[i]
      end
    end
  end
  local rest = call('EXISTS', parked) == 1 and 'p' or ''
  return ids, #page == bound and whole(start + bound) or rest
end

-- One claim a page: its ids are at most 1,000.
local function scan_in_progress()
  local start = tonumber(cursor) or 0
  local receipt = call('ZRANGE', leases, whole(start), whole(start))[1]
  local packed = receipt and call('HGET', claims, receipt)
  return packed and unpack_ids(packed, 1) or {}, receipt and whole(start + 1) or ''
end

-- The ids that ended with one call a page.
local function scan_finished()
  local start = tonumber(cursor) or 0
  local ended = call('LINDEX', finished_order, whole(start))
  return ended and unpack_ids(ended, 7) or {}, ended and whole(start + 1) or ''
end

local ids, next_cursor
if zsets[state] then
  ids, next_cursor = scan_zset(zsets[state])
elseif state == 'queued' then
  ids, next_cursor = scan_queued()
elseif state == 'in_progress' then
  ids, next_cursor = scan_in_progress()
else
  ids, next_cursor = scan_finished()
end
return { 'ok', known, ids, next_cursor }
