#!lua flags=allow-oom
-- end_again: ends items whose end a failover took back, as a mirror has it: their end markers come back, with receipt
-- and result. It leaves what somebody holds, and what was enqueued after that end: that is another item with its id.
-- Repeating it changes nothing more.
-- Returns {'ok', epoch, indexes (from 0) of the items that it left: held, enqueued since, ended already or unknown}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _end _where _place _after _producers _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local attempts = KEYS[3] -- hash: id -> history
local errors = KEYS[4] -- hash: id -> last error
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local finished_order = KEYS[8] -- list: stamp and ids that ended together, oldest left
local checkpoints = KEYS[9] -- hash: id -> how far its work has come
local queued = KEYS[10] -- list: ids, oldest left
local waiting = KEYS[11] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[12] -- list: one token wakes one worker
local groups = KEYS[13] -- hash: id -> its group
local turns = KEYS[14] -- hash: group -> ids that have the turn
local parked = KEYS[15] -- zset: items that wait for the turn of their group
local members = KEYS[16] -- hash: id -> its batch
local batches = KEYS[17] -- hash: batch -> how far it is, and what follows
local watched = KEYS[18] -- zset: id that somebody waits for, by the end of the wait in ms
local producers = KEYS[19] -- zset: producer that waits for room, by the end of its wait in ms
local room = KEYS[20] -- list: one token lets one producer try again
local journal = KEYS[21] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: for each item two: id, end marker

enter({
  'finished', 'removed', 'cancelled_places', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms',
  'waiting_bytes', 'stamp', 'enqueued',
})
local now = clock()
may_end_items()
cold().may_go_on()
cold().may_tell_producers()
permitted('ZREM', scheduled)
permitted('ZREM', orphaned)
permitted('ZREM', dead)
typed(scheduled, 'zset')
typed(orphaned, 'zset')
typed(dead, 'zset')

-- How an item ended, where its place stays in the list, and elsewhere: lua/_end.lua.
local IN_PLACE = { f = 'p', F = 'P', p = 'p', P = 'P', r = 'c', R = 'c', c = 'c' }
local ELSEWHERE = { f = 'f', F = 'F', p = 'f', P = 'F', r = 'r', R = 'R', c = 'r' }

local ids, markers, left = {}, {}, {}
for i = 3, #ARGV, 2 do
  ids[#ids + 1], markers[#markers + 1] = ARGV[i], ARGV[i + 1]
end
local states, records, histories = states_of(ids)
local fields, gone, places, elsewhere, in_group, group_records = {}, {}, 0, {}, {}, {}
local outcomes = { finished = {}, removed = {} }

local function may_end(i)
  local lives = ({ queued = true, scheduled = true, orphaned = true, dead = true })[states[i]]
  local enqueued_at, ended_at = records[i] and read_stamp(records[i]), read_stamp(string.sub(markers[i], 2))
  return lives and enqueued_at and ended_at and enqueued_at < ended_at
end

local function mark(i)
  local how, id = string.sub(markers[i], 8, 8), ids[i]
  local is_parked = histories[i] and byte(histories[i]) == WAITS_FOR_TURN
  local in_place = states[i] == 'queued' and not is_parked
  local now_how = (in_place and IN_PLACE or ELSEWHERE)[how]
  local words = now_how == 'c' and '' or string.sub(markers[i], 9)
  fields[#fields + 1], fields[#fields + 2] = id, string.sub(markers[i], 1, 7) .. now_how .. words
  table.insert(outcomes[string.find(how, '^[fFpP]') and 'finished' or 'removed'], id)
  gone[#gone + 1] = id
  if in_place then
    places = places + 1
  else
    elsewhere[#elsewhere + 1] = id
  end
  if states[i] == 'queued' and is_parked then
    in_group[#in_group + 1], group_records[#group_records + 1] = id, records[i]
  end
  if states[i] == 'queued' or states[i] == 'scheduled' then
    add('waiting_bytes', -#records[i])
  end
end

for i = 1, #ids do
  if may_end(i) then
    mark(i)
  else
    left[#left + 1] = i - 1
  end
end
if #gone == 0 then
  return { 'ok', known, left }
end
if #elsewhere > 0 then
  call('RPUSH', finished_order, pack_stamp(to_ticks(now)) .. pack_ids(elsewhere))
  add('remembered', #elsewhere)
end
call('HSET', items, unpack(fields))
drop_history(gone)
call('ZREM', scheduled, unpack(gone))
call('ZREM', orphaned, unpack(gone))
call('ZREM', dead, unpack(gone))
if #in_group > 0 then
  cold().drop_parked(in_group, group_records)
end
touch(gone)
add('cancelled_places', places)
local wakes = 0
for outcome, of_outcome in pairs(outcomes) do
  add(outcome, #of_outcome)
  wakes = wakes + cold().go_on_after(of_outcome, outcome, now)
end
forget(now)
save()
cold().tell_producers(#gone, now)
wake_workers(wakes, now)
return { 'ok', known, left }
