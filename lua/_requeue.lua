-- needs: meta items queued attempts scheduled orphaned dead groups
-- uses: _ids _place _journal
-- Puts set-aside items back into the queue: at its tail, or at its head where they keep their turn.

local function may_queue_again()
  permitted('HSET', meta)
  permitted('RPUSH', queued)
  may_place_at_head()
  permitted('ZREM', dead)
  typed(scheduled, 'zset')
  typed(orphaned, 'zset')
  typed(dead, 'zset')
end

-- A dead item whose group went on without it has its turn before those of its group that wait still: at the head.
local function split_groups(ids, states, at_head)
  local named = not at_head and field.grouped and call('HMGET', groups, unpack(ids)) or {}
  local head, tail = {}, {}
  for i = 1, #ids do
    local into = (at_head or named[i] and states[i] == 'dead') and head or tail
    into[#into + 1] = i
  end
  return head, tail
end

-- What was dead starts its attempts afresh. The number of claims goes on, because it is the fencing number of the next
-- delivery. Asks for the field waiting_bytes; the caller saves.
local function queue_again(ids, states, histories, records, at_head)
  local head, tail = split_groups(ids, states, at_head)
  local fields, bytes = {}, 0
  for i, id in ipairs(ids) do
    local taken, failures, expiries = read_history(histories[i])
    if states[i] == 'dead' then
      failures, expiries = 0, 0
    end
    fields[i * 2 - 1], fields[i * 2] = id, write_history('q', taken, failures, expiries, '')
    bytes = bytes + (states[i] ~= 'scheduled' and records[i] and #records[i] or 0)
  end
  for _, i in ipairs(head) do
    fields[i * 2] = 'h' .. string.sub(fields[i * 2], 2)
  end
  call('HSET', attempts, unpack(fields))
  if #tail > 0 then
    call('RPUSH', queued, unpack(pick(ids, tail)))
  end
  place_at_head(pick(ids, head), pick(records, head))
  call('ZREM', scheduled, unpack(ids))
  call('ZREM', orphaned, unpack(ids))
  call('ZREM', dead, unpack(ids))
  add('waiting_bytes', bytes)
  touch(ids)
end
