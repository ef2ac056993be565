-- needs: meta items queued scheduled attempts groups
-- uses: _history _journal
-- New items: their places, their records, and what goes with them. An id that the queue knows is left as it is.

-- Leaves out the items that the queue knows already. `lists` run beside the ids: bodies, dues, group names.
-- Returns the ids that are new, their lists, and the indexes (from 0) of those left out.
local function unknown(ids, lists)
  local records = call('HMGET', items, unpack(ids))
  local there = {}
  for i = 1, #ids do
    if records[i] then
      there[#there + 1] = i - 1
    end
  end
  if #there == 0 then
    return ids, lists, there
  end
  local new_ids, new_lists, n = {}, {}, 0
  for k = 1, #lists do
    new_lists[k] = {}
  end
  for i = 1, #ids do
    if not records[i] then
      n = n + 1
      new_ids[n] = ids[i]
      for k = 1, #lists do
        new_lists[k][n] = lists[k][i]
      end
    end
  end
  return new_ids, new_lists, there
end

-- Returns the ids for `queued`, and the scores and ids for `scheduled`.
local function split_due(ids, dues)
  if next(dues) == nil then
    return ids, {}
  end
  local places, later = {}, {}
  for i = 1, #ids do
    if dues[i] then
      later[#later + 1], later[#later + 2] = dues[i], ids[i]
    else
      places[#places + 1] = ids[i]
    end
  end
  return places, later
end

-- Ids and records for `items`, each body behind its stamp; and the bytes of all records.
local function stamped(ids, bodies, stamp)
  local fields, bytes = {}, 0
  local high, low = split_stamp(stamp)
  for i = 1, #ids do
    if low > 65535 then
      high, low = split_stamp(stamp + i - 1)
    end
    fields[i * 2 - 1] = ids[i]
    fields[i * 2] = high .. char((low - low % 256) / 256, low % 256) .. bodies[i]
    bytes = bytes + #bodies[i]
    low = low + 1
  end
  return fields, bytes + #ids * STAMP_BYTES
end

-- Ids and groups for `groups`.
local function grouped(ids, names)
  local fields = {}
  for i = 1, #ids do
    if names[i] and names[i] ~= '' then
      fields[#fields + 1], fields[#fields + 2] = ids[i], names[i]
    end
  end
  return fields
end

local function may_add_items(later, named)
  permitted('HSET', meta)
  permitted('HSET', items)
  permitted('RPUSH', queued)
  typed(queued, 'list')
  if later then
    permitted('ZADD', scheduled)
    permitted('HSET', attempts)
    typed(scheduled, 'zset')
    typed(attempts, 'hash')
  end
  if named then
    permitted('HSET', groups)
    typed(groups, 'hash')
  end
end

-- Adds items that the queue does not know. Asks for the fields stamp, enqueued and waiting_bytes; the caller has asked
-- may_add_items, and saves. The place before the record: a place without a record is skipped, a record
-- without a place would be lost.
local function add_items(ids, bodies, places, later, named, now)
  local stamp = next_stamp(number_of('stamp'), now)
  local fields, bytes = stamped(ids, bodies, stamp)
  if #named > 0 then
    call('HSET', groups, unpack(named))
    if not field.grouped then
      change_extra('grouped', 1)
    end
  end
  if #places > 0 then
    call('RPUSH', queued, unpack(places))
  end
  if #later > 0 then
    call('ZADD', scheduled, unpack(later))
    call('HSET', attempts, unpack(out_of_order(later)))
  end
  call('HSET', items, unpack(fields))
  change('stamp', stamp + #ids - 1)
  add('enqueued', #ids)
  add('waiting_bytes', bytes)
  touch(ids)
end
