-- needs: meta items queued scheduled attempts groups members batches
-- uses: _enqueue _journal
-- cold
-- A batch is a number of items and one that follows when they are through. `members` has the batch of each item that is
-- still awaited, `batches` under 'b' and its id 'when sealed total awaited' (when: 'finished' or 'settled'; sealed: 1
-- when no more items will be added), and under 't' and its id the item that follows. Each item is counted off exactly
-- once, because it leaves `members` with that.

function offered.may_settle_members()
  if field.batched then
    permitted('HDEL', members)
    permitted('HMGET', members)
    permitted('HSET', batches)
    permitted('HDEL', batches)
    permitted('HMGET', batches)
    permitted('HGET', batches)
    permitted('HEXISTS', items)
    typed(items, 'hash')
    typed(members, 'hash')
    typed(batches, 'hash')
    typed(scheduled, 'zset')
    typed(attempts, 'hash')
    may_add_items(true, true)
  end
end

function offered.read_batch(value)
  local condition, is_sealed, total, awaited = string.match(value or '', '^(%a+) (%d) (%d+) (%d+)$')
  return condition, is_sealed == '1', tonumber(total) or 0, tonumber(awaited) or 0
end

function offered.write_batch(condition, is_sealed, total, awaited)
  return table.concat({ condition, is_sealed and '1' or '0', whole(total), whole(awaited) }, ' ')
end

-- The item that follows, as one string: lengths and values of id, due and group, then the body.
function offered.touch_batch(name)
  if field.mirrored then
    touched[#touched + 1], touched[#touched + 2] = 'b', name
  end
end

function offered.pack_then(id, due, group, body)
  return char(#id) .. id .. char(#due) .. due .. char(#group) .. group .. body
end

local function unpack_then(packed)
  local values, at = {}, 1
  for i = 1, 3 do
    local size = byte(packed, at)
    values[i] = string.sub(packed, at + 1, at + size)
    at = at + 1 + size
  end
  return values[1], values[2], values[3], string.sub(packed, at)
end

-- Enqueues the item that follows a batch, unless the queue knows it. Returns how many places it made.
function offered.follow_batch(name, now)
  local id, due, group, body = unpack_then(call('HGET', batches, 't' .. name))
  local made = 0
  if call('HEXISTS', items, id) == 0 then
    local places, later = split_due({ id }, { due_at(due, now) })
    add_items({ id }, { body }, places, later, grouped({ id }, { group }), now)
    made = 1
  end
  call('HDEL', batches, 'b' .. name, 't' .. name)
  offered.touch_batch(name)
  return made
end

-- Counts members off. Returns how many places that made.
local function settle_members(ids, outcome, now)
  local of, counts, done = call('HMGET', members, unpack(ids)), {}, {}
  for i = 1, #ids do
    if of[i] then
      counts[of[i]] = counts[of[i]] or {}
      table.insert(counts[of[i]], ids[i])
    end
  end
  local made = 0
  for name, settled in pairs(counts) do
    local condition, is_sealed, total, awaited = offered.read_batch(call('HGET', batches, 'b' .. name))
    if condition and (outcome ~= 'dead' or condition == 'settled') then
      for _, id in ipairs(settled) do
        done[#done + 1] = id
      end
      awaited = awaited - #settled
      if is_sealed and awaited <= 0 then
        made = made + offered.follow_batch(name, now)
      else
        call('HSET', batches, 'b' .. name, offered.write_batch(condition, is_sealed, total, awaited))
      end
    end
  end
  if #done > 0 then
    call('HDEL', members, unpack(done))
  end
  return made
end
