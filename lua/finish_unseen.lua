#!lua flags=allow-oom
-- finish_unseen: a claim can be lost in a failover: the new master never saw it, and the item is queued there as
-- before. Its holder may end it still, where nobody else had it meanwhile: the item is queued, it is the same one by
-- its stamp, and as many claims of it have come to an end as before this one. Its place in the queue is passed over
-- later. With results, and with what comes next where one item ends by the call, as finish_with does it. Repeating it
-- is a quiet yes and enqueues nothing more.
-- Returns {'ok', epoch, indexes (from 0) of the items that it did not end}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _alarm _enqueue _where _finish _journal
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
local orphaned = KEYS[11] -- zset: id by the time it was set aside in ms
local dead = KEYS[12] -- zset: id by time of death in ms
local waiting = KEYS[13] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[14] -- list: one token wakes one worker
local groups = KEYS[15] -- hash: id -> its group
local turns = KEYS[16] -- hash: group -> ids that have the turn
local parked = KEYS[17] -- zset: items that wait for the turn of their group
local members = KEYS[18] -- hash: id -> its batch
local batches = KEYS[19] -- hash: batch -> how far it is, and what follows
local watched = KEYS[20] -- zset: id that somebody waits for, by the end of the wait in ms
local alarm = KEYS[21] -- list: a token wakes the sweeper
local journal = KEYS[22] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local ending = ARGV[3] -- items that end
-- ARGV[4...]: for each of these five: receipt, id, stamp of its record, claims of it that had ended when it was
--   claimed, result ('' none); then for each one that comes next four, as finish_with has them

enter({
  'finished', 'in_progress', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'stamp', 'enqueued',
  'waiting_bytes', 'cancelled_places', 'sweep_until_ms',
})
local now = clock()
may_end_items()
if extras then
  cold().may_go_on()
end
look_for_idle()

local then_from = 4 + tonumber(ending) * 5
local ids, receipts, stamps, before, results = {}, {}, {}, {}, {}
for i = 4, then_from - 1, 5 do
  local n = #ids + 1
  receipts[n], ids[n], stamps[n], before[n], results[n] = unpack(ARGV, i, i + 4)
end
local next_ids, bodies, dues, names = {}, {}, {}, {}
for i = then_from, #ARGV, 4 do
  local n = #next_ids + 1
  next_ids[n], bodies[n], dues[n], names[n] = ARGV[i], ARGV[i + 1], due_at(ARGV[i + 2], now), ARGV[i + 3]
end
if #next_ids > 0 then
  may_add_items(true, true)
  cold().may_sound_alarm()
end
local states, records, histories = states_of(ids)

-- One that waits for the turn of its group has another place, and was not claimed by anybody's reckoning: it stays.
local function untouched(i)
  local in_group = histories[i] and byte(histories[i]) == WAITS_FOR_TURN
  local same = states[i] == 'queued' and string.sub(records[i], 1, STAMP_BYTES) == stamps[i]
  return same and not in_group and read_history(histories[i]) == tonumber(before[i])
end

-- What comes next is there before its source goes.
local later, wakes = {}, 0
if #next_ids > 0 and untouched(1) then
  local lists, places
  next_ids, lists = unknown(next_ids, { bodies, dues, names })
  if #next_ids > 0 then
    places, later = split_due(next_ids, lists[2])
    add_items(next_ids, lists[1], places, later, grouped(next_ids, lists[3]), now)
    wakes = #places
  end
end

local function end_in_place(i, when)
  if results[i] == '' then
    mark_ended({ ids[i] }, 'p', receipts[i], when)
  else
    mark_ended({ ids[i] }, 'P', char(#receipts[i]) .. receipts[i] .. results[i], when)
  end
  add('waiting_bytes', -#records[i])
end

local lost, ended, when = {}, {}, pack_stamp(to_ticks(now))
local done = {} -- an item that is named twice ends once
for i, id in ipairs(ids) do
  if not done[id] and untouched(i) then
    end_in_place(i, when)
    ended[#ended + 1], done[id] = id, true
  elseif not (ended_by(id, receipts[i], 'f') or ended_by(id, receipts[i], 'p')) then
    lost[#lost + 1] = i - 1
  end
end
if #ended > 0 then
  drop_history(ended)
  add('cancelled_places', #ended)
  add('finished', #ended)
  if extras then
    wakes = wakes + cold().go_on_after(ended, 'finished', now)
  end
  save()
  cold().wake_for(wakes, later, now)
else
  leave_trace()
end
return { 'ok', known, lost }
