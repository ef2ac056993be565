-- needs: meta items finished_order attempts errors checkpoints
-- uses: _defaults _stamp _ids _journal
-- An item that has ended keeps its id and, instead of its record: byte 255, a stamp of when, and how: 'f' finished, 'r'
-- removed, and with their place still in the queue 'p' finished, 'c' cancelled; then the receipt that finished it. 'F',
-- 'P' and 'R' have the length of the receipt in one byte, the receipt, and the result or the reason of the holder.
-- `finished_order` has a stamp and the packed ids of each call that ended items, so that they are forgotten in order.
-- A script that ends items enters with REMEMBERING.

local history_there = false -- whether any item has a history or an error

local function may_end_items()
  permitted('HSET', meta)
  permitted('HSET', items)
  permitted('HDEL', items)
  permitted('RPUSH', finished_order)
  permitted('LPOP', finished_order)
  permitted('LINDEX', finished_order)
  typed(items, 'hash')
  typed(finished_order, 'list')
  history_there = call('EXISTS', attempts, errors, checkpoints) > 0
  if history_there then
    permitted('HDEL', attempts)
    typed(attempts, 'hash')
    typed(errors, 'hash')
    typed(checkpoints, 'hash')
  end
end

local function drop_history(ids)
  if history_there then
    call('HDEL', attempts, unpack(ids))
    call('HDEL', errors, unpack(ids))
    call('HDEL', checkpoints, unpack(ids))
  end
end

-- Replaces the records of ids by how they ended.
local function mark_ended(ids, how, receipt, when)
  local ended = char(ENDED) .. when .. how .. receipt
  local fields = {}
  for i = 1, #ids do
    fields[i * 2 - 1] = ids[i]
    fields[i * 2] = ended
  end
  call('HSET', items, unpack(fields))
  touch(ids)
end

-- Ends items that their holder has something to say of: how is 'F' or 'R', `words` the results or reasons.
local function end_with_words(ids, how, receipt, words, now)
  local when = pack_stamp(to_ticks(now))
  call('RPUSH', finished_order, when .. pack_ids(ids))
  local fields = {}
  for i = 1, #ids do
    fields[i * 2 - 1] = ids[i]
    fields[i * 2] = char(ENDED) .. when .. how .. char(#receipt) .. receipt .. words[i]
  end
  call('HSET', items, unpack(fields))
  drop_history(ids)
  touch(ids)
  add('remembered', #ids)
end

-- Forgets the oldest ended ids while there are too many or they are too old: at most two calls' worth at a time, so
-- that no call pays for all. The age is looked at once a second.
local function forget(now)
  local now_score = math.floor(now / 1000)
  local max_count = number_of('finished_count', DEFAULT_FINISHED_COUNT)
  if number_of('remembered') <= max_count and now_score - number_of('looked_at_ms') < 1000 then
    return
  end
  local too_old = now_score - number_of('finished_age_ms', DEFAULT_FINISHED_AGE_MS)
  for _ = 1, 2 do
    local oldest = call('LINDEX', finished_order, '0')
    if not oldest or number_of('remembered') <= max_count and ticks_ms(read_stamp(oldest)) > too_old then
      change('looked_at_ms', now_score)
      return
    end
    local ids = unpack_ids(oldest, 7)
    call('HDEL', items, unpack(ids))
    call('LPOP', finished_order)
    add('remembered', -#ids)
  end
end

-- Ends items: how is 'f' or 'r'. The caller has asked may_end_items, and saves.
local function end_items(ids, how, receipt, now)
  local when = pack_stamp(to_ticks(now))
  call('RPUSH', finished_order, when .. pack_ids(ids))
  mark_ended(ids, how, receipt, when)
  drop_history(ids)
  add('remembered', #ids)
end

-- Items that have ended and whose places are passed over now. They are forgotten no sooner, so that an id is never in
-- the queue twice.
local function end_passed(ids, now)
  local cancelled = {}
  for i, marker in ipairs(call('HMGET', items, unpack(ids))) do
    local how = string.sub(marker, 8, 8)
    if how == 'p' or how == 'P' then
      end_items({ ids[i] }, how == 'p' and 'f' or 'F', string.sub(marker, 9), now)
    else
      cancelled[#cancelled + 1] = ids[i]
    end
  end
  if #cancelled > 0 then
    end_items(cancelled, 'r', '', now)
  end
  add('cancelled_places', -#ids)
  forget(now)
end
