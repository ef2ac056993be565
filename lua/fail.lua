#!lua flags=allow-oom
-- fail: an attempt at items has failed. They are tried again, at once or later as the queue's `retry` setting says, or
-- end among the dead when their attempts are used up, or are discarded by their holder for a reason. Repeated with the
-- same receipt it changes nothing more.
-- Returns {'ok', epoch, outcomes}: for each item 'lost', 'dead', 'removed', 'queued', or the ms at which it is due.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _defaults _wake _alarm _place _finish _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local errors = KEYS[7] -- hash: id -> last error
local finished_order = KEYS[8] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[9] -- hash: id -> how far its work has come
local scheduled = KEYS[10] -- zset: id by due time in ms
local dead = KEYS[11] -- zset: id by time of death in ms
local waiting = KEYS[12] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[13] -- list: one token wakes one worker
local alarm = KEYS[14] -- list: a token wakes the sweeper
local groups = KEYS[15] -- hash: id -> its group
local turns = KEYS[16] -- hash: group -> ids that have the turn
local parked = KEYS[17] -- zset: items that wait for the turn of their group
local members = KEYS[18] -- hash: id -> its batch
local batches = KEYS[19] -- hash: batch -> how far it is, and what follows
local watched = KEYS[20] -- zset: id that somebody waits for, by the end of the wait in ms
local journal = KEYS[21] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: runs of receipt, number of items, and for each item four: id, after, jitter (0 to 1), error;
--   after: '' as the settings say, ms until the next attempt, 'dead' or 'discard'

local MAX_BACKOFF_DOUBLINGS = 40 -- keeps 2 ^ n a whole number

enter({
  'max_attempts', 'retry', 'backoff_base_ms', 'backoff_cap_ms', 'in_progress', 'waiting_bytes', 'stamp', 'enqueued',
  'removed', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'sweep_until_ms',
})
local max_attempts = number_of('max_attempts', DEFAULT_MAX_ATTEMPTS)
local retry = field.retry or DEFAULT_RETRY
local base_ms = number_of('backoff_base_ms', DEFAULT_BACKOFF_BASE_MS)
local cap_ms = number_of('backoff_cap_ms', DEFAULT_BACKOFF_CAP_MS)
local now = clock()
local now_score = math.floor(now / 1000)
may_keep_claims()
may_place_at_head()
may_end_items()
if extras then
  cold().may_go_on()
end
permitted('RPUSH', queued)
permitted('ZADD', dead)
permitted('ZADD', scheduled)
permitted('HGET', claims)
permitted('ZSCORE', dead)
typed(claims, 'hash')
typed(leases, 'zset')
typed(errors, 'hash')
typed(scheduled, 'zset')
typed(dead, 'zset')
cold().may_sound_alarm()
look_for_idle()

-- Where an item goes that has failed `failures` times: 'removed', 'dead', 'queued', or the ms at which it is due.
local function destination(failures, after, jitter)
  if after == 'discard' then
    return 'removed'
  end
  if after == 'dead' or failures >= max_attempts then
    return 'dead'
  end
  if after ~= '' then
    return whole(now_score + tonumber(after))
  end
  if retry ~= 'later' then
    return 'queued'
  end
  local backoff = math.min(cap_ms, base_ms * 2 ^ math.min(failures - 1, MAX_BACKOFF_DOUBLINGS))
  return whole(now_score + math.floor(backoff * tonumber(jitter)))
end

-- What became of an item that this receipt does not hold: what it did with it before, or 'lost'.
local function earlier_outcome(id, receipt)
  if ended_by(id, receipt, 'r') then
    return 'removed'
  end
  if not given_back_by(id, receipt) then
    return 'lost'
  end
  if call('ZSCORE', dead, id) then
    return 'dead'
  end
  return call('ZSCORE', scheduled, id) or 'queued'
end

-- Sorts the items of one run by where they go. `from` is where the run begins in ARGV, `at` the index of each id in it.
local function sorted_out(mine, at, from, receipt, outcome)
  local histories = call('HMGET', attempts, unpack(mine))
  local go = { removed = {}, words = {}, dead = {}, queued = {}, later = {}, updates = {}, reasons = {}, buried = {} }
  for k, id in ipairs(mine) do
    local i = at[id]
    local taken, failures, expiries = read_history(histories[k])
    local error_text = ARGV[from + i * 4 + 1]
    local to = destination(failures + 1, ARGV[from + i * 4 - 1], ARGV[from + i * 4])
    outcome[i] = to
    if to == 'removed' then
      table.insert(go.removed, id)
      table.insert(go.words, error_text)
    else
      local place = to == 'queued' and retry == 'head' and 'h' or 'q'
      local u = #go.updates
      go.updates[u + 1], go.updates[u + 2] = id, write_history(place, taken + 1, failures + 1, expiries, receipt)
      go.reasons[u + 1], go.reasons[u + 2] = id, error_text
      if to == 'dead' then
        table.insert(go.dead, id)
        table.insert(go.buried, whole(now_score))
        table.insert(go.buried, id)
      elseif to == 'queued' then
        table.insert(go.queued, id)
      else
        table.insert(go.later, to)
        table.insert(go.later, id)
      end
    end
  end
  return go
end

-- Gives the items their places. Returns how many bytes wait now that did not before.
local function place_failed(go, mine, receipt)
  if #go.updates > 0 then
    call('HSET', attempts, unpack(go.updates))
    touch(mine)
    call('HSET', errors, unpack(go.reasons))
  end
  if #go.dead > 0 then
    call('ZADD', dead, unpack(go.buried))
  end
  if #go.removed > 0 then
    end_with_words(go.removed, 'R', receipt, go.words, now)
    add('removed', #go.removed)
  end
  if #go.later > 0 then
    call('ZADD', scheduled, unpack(go.later))
  end
  local back = { unpack(go.queued) }
  for i = 2, #go.later, 2 do
    back[#back + 1] = go.later[i]
  end
  local records = #back > 0 and call('HMGET', items, unpack(back)) or {}
  if #go.queued > 0 and retry == 'head' then
    place_at_head(go.queued, records)
  elseif #go.queued > 0 then
    call('RPUSH', queued, unpack(go.queued))
  end
  return weight(records)
end

local outcomes, from, base, wakes, later = {}, 3, 0, 0, {}
while from < #ARGV do
  local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
  local ids, at, outcome = {}, {}, {}
  for i = 1, size do
    ids[i] = ARGV[from + i * 4 - 2]
    at[ids[i]] = i
  end
  local mine, others, left = split_claim(receipt, ids)
  for _, i in ipairs(others) do
    outcome[i] = earlier_outcome(ids[i], receipt)
  end
  if #mine > 0 then
    local go = sorted_out(mine, at, from, receipt, outcome)
    add('waiting_bytes', place_failed(go, mine, receipt))
    keep_claim(receipt, left, #mine)
    wakes = wakes + #go.queued
    if extras then
      wakes = wakes + cold().go_on_after(go.dead, 'dead', now) + cold().go_on_after(go.removed, 'removed', now)
    end
    wakes = wakes + (field.max_in_progress and #go.later / 2 or 0)
    for _, part in ipairs(go.later) do
      later[#later + 1] = part
    end
  end
  for i = 1, size do
    outcomes[base + i] = outcome[at[ids[i]]] -- an item named twice failed once; both places say how
  end
  base = base + size
  from = from + 2 + size * 4
end
if field.removed then
  forget(now)
end
save()
cold().wake_for(wakes, later, now)
return { 'ok', known, outcomes }
