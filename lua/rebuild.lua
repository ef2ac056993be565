#!lua flags=allow-oom
-- rebuild: opens an empty queue for restore, under a new epoch and closed to everybody else; or opens it to all when it
-- is whole. Repeated with the same rebuild id it changes nothing more. 'wipe' removes what is there, whatever it is.
-- Returns {'ok', epoch, state ('rebuilding' or 'ready')}.
-- Errors: NOT_EMPTY epoch state, STALE_EPOCH, STATE_LOST, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT, REBUILDING.
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
local orphaned = KEYS[11] -- zset: id by the time it was set aside in ms
local dead = KEYS[12] -- zset: id by time of death in ms
local waiting = KEYS[13] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[14] -- list: one token wakes one worker
local alarm = KEYS[15] -- list: a token wakes the sweeper
local groups = KEYS[16] -- hash: id -> its group
local turns = KEYS[17] -- hash: group -> ids that have the turn
local parked = KEYS[18] -- zset: items that wait for the turn of their group
local members = KEYS[19] -- hash: id -> its batch
local batches = KEYS[20] -- hash: batch -> how far it is, and what follows
local watched = KEYS[21] -- zset: id that somebody waits for, by the end of the wait in ms
local producers = KEYS[22] -- zset: producer that waits for room, by the end of its wait in ms
local room = KEYS[23] -- list: one token lets one producer try again
local crons = KEYS[24] -- hash: name -> definition of a recurring item
local ticks = KEYS[25] -- zset: name of a recurring item by its next tick in ms
local workers = KEYS[26] -- zset: worker by when it was last seen, in ms
local worker_facts = KEYS[27] -- hash: worker -> what it says of itself
local journal = KEYS[28] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local phase = ARGV[3] -- 'begin', 'wipe' (begin, whatever is there) or 'end'
local rebuild_id = ARGV[4] -- made by the client, the same for all calls of one rebuild
local new_epoch = ARGV[5] -- greater than every epoch before
-- ARGV[6...]: with 'begin' settings of the queue: name, value, ...

enter({ 'rebuild_id' }, true)
local state = known ~= '' and call('HGET', meta, 'state') or ''
local mine = field.rebuild_id == rebuild_id
permitted('HSET', meta)
permitted('DEL', meta)
permitted('HEXISTS', meta)
permitted('XADD', journal)

if phase == 'end' then
  if not mine then
    refuse('REBUILDING', known)
  end
  call('HSET', meta, 'state', 'ready')
  return { 'ok', known, 'ready' }
end
if mine then
  return { 'ok', known, state }
end
if known ~= '' and phase ~= 'wipe' then
  refuse('NOT_EMPTY', known .. ' ' .. state)
end
if known ~= '' and tonumber(new_epoch) <= tonumber(known) then
  refuse('STALE_EPOCH', known)
end
call('DEL', meta, items, queued, claims, leases, attempts, errors, finished_order, checkpoints)
call('DEL', scheduled, orphaned, dead)
call('DEL', waiting, wake, alarm, groups, turns, parked, members, batches, watched, producers, room, crons, ticks)
call('DEL', workers, worker_facts, journal)
known = new_epoch
call('HSET', meta, 'layout', LAYOUT, 'epoch', known, 'state', 'rebuilding', 'rebuild_id', rebuild_id, 'created_at_ms',
  whole(math.floor(clock() / 1000)), 'extras', '1', unpack(ARGV, 6))
if call('HEXISTS', meta, 'mirrored') == 1 then
  call('XADD', journal, '*', 'q', '') -- stands for all that is restored: a follower goes on behind it
end
return { 'ok', known, 'rebuilding' }
