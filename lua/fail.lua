#!lua flags=allow-oom
-- fail: an attempt at items has failed. They are tried again, at once or later as the queue's `retry` setting says, or
-- end among the dead when their attempts are used up. Repeated with the same receipt it changes nothing more.
-- Returns {'ok', epoch, outcomes}: for each item 'lost', 'dead', 'queued', or the ms at which it is due again.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _ids _history _lease _place _wake
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local errors = KEYS[7] -- hash: id -> last error
local scheduled = KEYS[8] -- zset: id by due time in ms
local dead = KEYS[9] -- zset: id by time of death in ms
local waiting = KEYS[10] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[11] -- list: one token wakes one worker
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: runs of receipt, number of items, and for each item four: id, after, jitter (0 to 1), error;
--   after: '' as the settings say, ms until the next attempt, or 'dead'

local MAX_BACKOFF_DOUBLINGS = 40 -- keeps 2 ^ n a whole number

enter({ 'max_attempts', 'retry', 'backoff_base_ms', 'backoff_cap_ms', 'in_progress' })
local max_attempts = number_of('max_attempts', 5)
local retry = field.retry or 'later'
local base_ms = number_of('backoff_base_ms', 1000)
local cap_ms = number_of('backoff_cap_ms', 3600000)
local now = clock()
local now_score = math.floor(now / 1000)
may_keep_claims()
may_place_at_head()
permitted('RPUSH', queued)
permitted('ZADD', dead)
permitted('HGET', claims)
permitted('ZSCORE', dead)
typed(claims, 'hash')
typed(leases, 'zset')
typed(errors, 'hash')
typed(scheduled, 'zset')
typed(dead, 'zset')
look_for_idle()

-- Where an item goes that has failed `failures` times: 'dead', 'queued', or the ms at which it is due.
local function destination(failures, after, jitter)
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

-- What became of an item that this receipt gave back before.
local function earlier_outcome(id)
  if call('ZSCORE', dead, id) then
    return 'dead'
  end
  return call('ZSCORE', scheduled, id) or 'queued'
end

local outcomes, from, base, wakes = {}, 3, 0, 0
while from < #ARGV do
  local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
  local ids, at = {}, {}
  for i = 1, size do
    ids[i] = ARGV[from + i * 4 - 2]
    at[ids[i]] = i
  end
  local mine, others, left = split_claim(receipt, ids)
  for _, i in ipairs(others) do
    outcomes[base + i] = given_back_by(ids[i], receipt) and earlier_outcome(ids[i]) or 'lost'
  end
  if #mine > 0 then
    local histories = call('HMGET', attempts, unpack(mine))
    local updates, reasons, buried, later, again = {}, {}, {}, {}, {}
    for k, id in ipairs(mine) do
      local i = at[id]
      local taken, failures, expiries = read_history(histories[k])
      failures = failures + 1
      local to = destination(failures, ARGV[from + i * 4 - 1], ARGV[from + i * 4])
      local place = to == 'queued' and retry == 'head' and 'h' or 'q'
      updates[k * 2 - 1], updates[k * 2] = id, write_history(place, taken + 1, failures, expiries, receipt)
      reasons[k * 2 - 1], reasons[k * 2] = id, ARGV[from + i * 4 + 1]
      outcomes[base + i] = to
      if to == 'dead' then
        buried[#buried + 1], buried[#buried + 2] = whole(now_score), id
      elseif to == 'queued' then
        again[#again + 1] = id
      else
        later[#later + 1], later[#later + 2] = to, id
      end
    end
    call('HSET', attempts, unpack(updates))
    call('HSET', errors, unpack(reasons))
    if #buried > 0 then
      call('ZADD', dead, unpack(buried))
    end
    if #later > 0 then
      call('ZADD', scheduled, unpack(later))
    end
    if #again > 0 and retry == 'head' then
      place_at_head(again, call('HMGET', items, unpack(again)))
    elseif #again > 0 then
      call('RPUSH', queued, unpack(again))
    end
    keep_claim(receipt, left, #mine)
    wakes = wakes + #again + (#later > 0 and 1 or 0)
  end
  for i = 1, size do
    outcomes[base + i] = outcomes[base + at[ids[i]]] -- an item named twice failed once; both places say how
  end
  base = base + size
  from = from + 2 + size * 4
end
save()
wake_workers(wakes, now)
return { 'ok', known, outcomes }
