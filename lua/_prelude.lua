-- Part of every script: the guard at the door, the clock, and the checks that run before the first write.
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

-- A script never rolls back, so a key of a wrong type or a revoked right must be found before the first write.
local function writable(key, kind, command, second_command)
  local found = call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    refuse('WRONG_TYPE', key .. ' holds a ' .. found .. ' where reliq keeps a ' .. kind)
  end
  if not redis.acl_check_cmd(command, key, '0', '0') then
    refuse('NO_RIGHT', command .. ' on ' .. key)
  end
  if second_command and not redis.acl_check_cmd(second_command, key, '0', '0') then
    refuse('NO_RIGHT', second_command .. ' on ' .. key)
  end
end

-- Looks at the layout, epoch and state that HMGET meta brought, and refuses what this client must not touch. Reading
-- is allowed while the queue is rebuilt. Returns the queue's epoch, or '' where there is no such queue yet.
local function admit(found, reading)
  if not found[1] then
    if epoch ~= '' then
      refuse('STATE_LOST', epoch)
    end
    return ''
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
  return found[2]
end

-- A new queue's epoch is the server's clock in ms, so that a queue that is made again after a loss gets a greater one.
local function create(now)
  local made = whole(math.floor(now / 1000))
  call('HSET', meta, 'layout', LAYOUT, 'epoch', made, 'state', 'ready', 'created_at_ms', made)
  return made
end
