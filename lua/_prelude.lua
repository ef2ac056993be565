-- Part of every script: the door, the clock, the counters, and the checks that run before the first write.
-- A script binds its keys and arguments first; what stands here refers to those names (`meta`, `epoch`, `now_ms`).

local call = redis.call

local LAYOUT = '1' -- data layout that these scripts read and write; README.md has its table
local PAGE = 100 -- expired leases, due items and forgotten ids that one call moves; it bounds the time of a call

local function refuse(word, detail)
  error(redis.error_reply(word .. ' ' .. detail))
end

-- Lua prints large doubles as 1e+15; the wire carries whole numbers.
local function whole(number)
  return string.format('%.0f', number)
end

-- Server time in microseconds. Tests pass now_ms instead, and walk through hours without a sleep.
local function clock()
  if now_ms ~= '' then
    return tonumber(now_ms) * 1000
  end
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A script never rolls back. What could stop it between two writes is looked for before the first one: a right that was
-- revoked, asked for here, and a key of a wrong type. Keys that a script reads before it writes need no look at their
-- type: reading fails first.
local function permitted(command, key)
  local allowed
  if command == 'DEL' then -- further arguments of it would be keys, which a user may have no right to
    allowed = redis.acl_check_cmd(command, key)
  else
    allowed = redis.acl_check_cmd(command, key, '0', '0')
  end
  if not allowed then
    refuse('NO_RIGHT', command .. ' on ' .. key)
  end
end

local function typed(key, kind)
  local found = call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    refuse('WRONG_TYPE', key .. ' holds a ' .. found .. ' where reliq keeps a ' .. kind)
  end
end

local cold -- gives what is seldom needed: _cold.lua
local journaling = {} -- for mirrored queues, in scripts that change something: _journal.lua

-- meta is read once, at the door, and written once, at the end: a command costs a script as much as ten items do.
local known = '' -- the queue's epoch, '' where there is no such queue yet
local field = {} -- what meta has, by name
local extras = false -- whether this queue has groups, batches, limits or listeners, or once had
local changes = {} -- name, value, name, value ... as HSET takes them
local place_in_changes = {} -- where a name stands in there

-- What most queues never use: limits, groups, batches, listeners. Read only where `extras` says that one of them is.
local EXTRAS = {
  'grouped', 'group_limit', 'batched', 'watched_until_ms', 'producers_until_ms', 'max_bytes', 'max_in_progress', 'rate',
  'rate_burst', 'rate_at', 'mirrored', 'journal_max',
}

-- Reads meta and refuses what this client must not touch. Reading is allowed while the queue is rebuilt.
local function enter(names, reading)
  local found = call('HMGET', meta, 'layout', 'epoch', 'state', 'extras', unpack(names))
  if not found[1] then
    if epoch ~= '' then
      refuse('STATE_LOST', epoch)
    end
    return
  end
  if found[1] ~= LAYOUT then
    refuse('UNKNOWN_LAYOUT', found[1])
  end
  if epoch ~= '' and epoch ~= found[2] then
    refuse('STALE_EPOCH', found[2])
  end
  if found[3] ~= 'ready' and not reading then
    refuse('REBUILDING', found[2])
  end
  known = found[2]
  for i = 1, #names do
    field[names[i]] = found[i + 4] or nil
  end
  extras = found[4] and true
  if extras then
    for i, value in ipairs(call('HMGET', meta, unpack(EXTRAS))) do
      field[EXTRAS[i]] = value or nil
    end
    if field.mirrored and journaling.may_write then
      journaling.may_write()
    end
  end
end

local function number_of(name, default)
  return tonumber(field[name]) or default or 0
end

local function change(name, value)
  field[name] = value
  local at = place_in_changes[name] or #changes + 1
  place_in_changes[name] = at
  changes[at], changes[at + 1] = name, whole(value)
end

local function add(name, amount)
  change(name, number_of(name) + amount)
end

-- Notes a field of EXTRAS, from now on read at the door.
local function change_extra(name, value)
  change('extras', 1)
  change(name, value)
end

-- Ends a step that is whole in itself: what fails after it leaves the counters true.
local function save()
  if #changes > 0 then
    call('HSET', meta, unpack(changes))
    changes, place_in_changes = {}, {}
  end
  if field.mirrored and journaling.write then
    journaling.write()
  end
end

-- A repeat that finds everything done writes all the same, and changes nothing: a confirmation (WAIT, WAITAOF) is about
-- the last write of its own connection, and what did the work may have come over another one.
local function leave_trace()
  if known ~= '' then
    call('HSET', meta, 'layout', LAYOUT)
  end
end

-- A new queue's epoch is the server's clock in ms, so that a queue that is made again after a loss gets a greater one.
local function create(now)
  known = whole(math.floor(now / 1000))
  call('HSET', meta, 'layout', LAYOUT, 'epoch', known, 'state', 'ready', 'created_at_ms', known)
end
