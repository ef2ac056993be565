#!lua flags=allow-oom
-- finish_unseen: a claim can be lost in a failover: the new master never saw it, and the item is queued there as
-- before. Its holder may end it still, where nobody else had it meanwhile: the item is queued, it is the same one by
-- its stamp, and as many claims of it have come to an end as before this one. Its place in the queue is passed over
-- later. Repeating it is a quiet yes.
-- Returns {'ok', epoch, indexes (from 0) of the items that it did not end}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _where _finish _journal
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
local journal = KEYS[21] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: for each item four: receipt, id, stamp of its record, claims of it that had ended when it was claimed

enter({
  'finished', 'in_progress', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'stamp', 'enqueued',
  'waiting_bytes', 'cancelled_places',
})
local now = clock()
may_end_items()
if extras then
  cold().may_go_on()
end
look_for_idle()

local ids, receipts, stamps, before = {}, {}, {}, {}
for i = 3, #ARGV, 4 do
  local n = #ids + 1
  receipts[n], ids[n], stamps[n], before[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
end
local states, records, histories = states_of(ids)

-- One that waits for the turn of its group has another place, and was not claimed by anybody's reckoning: it stays.
local function untouched(i)
  local in_group = histories[i] and byte(histories[i]) == WAITS_FOR_TURN
  local same = states[i] == 'queued' and string.sub(records[i], 1, STAMP_BYTES) == stamps[i]
  return same and not in_group and read_history(histories[i]) == before[i]
end

local lost, ended, wakes, when = {}, {}, 0, pack_stamp(to_ticks(now))
for i, id in ipairs(ids) do
  if untouched(i) then
    mark_ended({ id }, 'p', receipts[i], when)
    add('waiting_bytes', -#records[i])
    ended[#ended + 1] = id
  elseif not (ended_by(id, receipts[i], 'f') or ended_by(id, receipts[i], 'p')) then
    lost[#lost + 1] = i - 1
  end
end
if #ended > 0 then
  drop_history(ended)
  add('cancelled_places', #ended)
  add('finished', #ended)
  if extras then
    wakes = cold().go_on_after(ended, 'finished', now)
  end
  save()
  wake_workers(wakes, now)
else
  leave_trace()
end
return { 'ok', known, lost }
