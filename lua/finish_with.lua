#!lua flags=allow-oom
-- finish_with: ends items as finish does, each with a result, and enqueues what comes next, in one step.
-- Items that come next are enqueued only where the one item of the call has ended by it. They may exceed the queue's
-- limits: a worker that could not finish would hold up those who make room. Repeated with the same receipt it is a
-- quiet yes and enqueues nothing more.
-- Returns {'ok', epoch, indexes (from 0) of the items that are not held under their receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _alarm _enqueue _finish _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local claims = KEYS[3] -- hash: receipt -> ids that it holds
local leases = KEYS[4] -- zset: receipt by deadline in ms
local attempts = KEYS[5] -- hash: id -> history
local errors = KEYS[6] -- hash: id -> last error
local finished_order = KEYS[7] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[8] -- hash: id -> how far its work has come
local queued = KEYS[9] -- list: ids, oldest left
local scheduled = KEYS[10] -- zset: id by due time in ms
local waiting = KEYS[11] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[12] -- list: one token wakes one worker
local groups = KEYS[13] -- hash: id -> its group
local turns = KEYS[14] -- hash: group -> ids that have the turn
local parked = KEYS[15] -- zset: items that wait for the turn of their group
local members = KEYS[16] -- hash: id -> its batch
local batches = KEYS[17] -- hash: batch -> how far it is, and what follows
local watched = KEYS[18] -- zset: id that somebody waits for, by the end of the wait in ms
local alarm = KEYS[19] -- list: a token wakes the sweeper
local journal = KEYS[20] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local ending = ARGV[3] -- items that end
-- ARGV[4...]: for each of these three: receipt, id, result ('' none); then for each one that comes next four: id, body,
--   due ('' at once, '+ms' from now, 'ms' absolute), group ('' none)

enter({
  'finished', 'in_progress', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'stamp', 'enqueued',
  'waiting_bytes', 'sweep_until_ms',
})
local now = clock()
may_end_items()
may_keep_claims()
cold().may_go_on()
typed(leases, 'zset')
look_for_idle()

local then_from = 4 + tonumber(ending) * 3
local ids, bodies, dues, names = {}, {}, {}, {}
for i = then_from, #ARGV, 4 do
  local n = #ids + 1
  ids[n], bodies[n], dues[n], names[n] = ARGV[i], ARGV[i + 1], due_at(ARGV[i + 2], now), ARGV[i + 3]
end
if #ids > 0 then
  may_add_items(true, true)
  cold().may_sound_alarm()
  typed(scheduled, 'zset')
end

local function finish_one(receipt, id, result)
  local mine, _, left = split_claim(receipt, { id })
  if #mine == 0 then
    return false
  end
  if result == '' then
    end_items(mine, 'f', receipt, now)
  else
    end_with_words(mine, 'F', receipt, { result }, now)
  end
  keep_claim(receipt, left, 1)
  add('finished', 1)
  return true
end

-- What comes next is there before its source goes, where that is held still.
local later, wakes = {}, 0
if #ids > 0 and #split_claim(ARGV[4], { ARGV[5] }) == 1 then
  local lists, places
  ids, lists = unknown(ids, { bodies, dues, names })
  if #ids > 0 then
    places, later = split_due(ids, lists[2])
    add_items(ids, lists[1], places, later, grouped(ids, lists[3]), now)
    wakes = #places
  end
end

local lost, ended = {}, {}
for i = 4, then_from - 1, 3 do
  if finish_one(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then
    ended[#ended + 1] = ARGV[i + 1]
  elseif not ended_by(ARGV[i + 1], ARGV[i], 'f') then
    lost[#lost + 1] = (i - 4) / 3
  end
end
if #ended > 0 then
  wakes = wakes + cold().go_on_after(ended, 'finished', now)
  forget(now)
else
  leave_trace()
end
save()
cold().wake_for(wakes, later, now)
return { 'ok', known, lost }
