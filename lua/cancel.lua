#!lua flags=allow-oom
-- cancel: removes items that nobody has started: queued and scheduled ones. The place of a queued item stays in the
-- list without its record and is skipped when its turn comes (finding it would cost a walk through the list).
-- Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it removed those that were queued or scheduled.
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
-- ARGV[3...]: ids

enter({
  'removed', 'cancelled_places', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms', 'waiting_bytes',
  'stamp', 'enqueued',
})
local now = clock()
may_end_items()
cold().may_go_on()
cold().may_tell_producers()
permitted('ZREM', scheduled)
typed(scheduled, 'zset')
local asked = { unpack(ARGV, 3) }
local states, records, histories = states_of(asked)

-- The ids that are queued: those with a place in the list, and those that wait for the turn of their group.
local function queued_by_place()
  local in_list, in_group, group_records = {}, {}, {}
  for i, id in ipairs(asked) do
    if states[i] == 'queued' then
      if histories[i] and byte(histories[i]) == WAITS_FOR_TURN then
        in_group[#in_group + 1], group_records[#group_records + 1] = id, records[i]
      else
        in_list[#in_list + 1] = id
      end
    end
  end
  return in_list, in_group, group_records
end

local in_list, in_group, group_records = queued_by_place()
local scheduled_ids = in_states(asked, states, { scheduled = true })
local gone, at = in_states(asked, states, { queued = true, scheduled = true })
if #gone > 0 then
  local bytes = weight(pick(records, at))
  if #in_list > 0 then
    mark_ended(in_list, 'c', '', pack_stamp(to_ticks(now)))
    drop_history(in_list)
    add('cancelled_places', #in_list)
  end
  if #in_group > 0 then
    end_items(in_group, 'r', '', now)
    cold().drop_parked(in_group, group_records)
  end
  if #scheduled_ids > 0 then
    end_items(scheduled_ids, 'r', '', now)
    call('ZREM', scheduled, unpack(scheduled_ids))
  end
  add('removed', #gone)
  add('waiting_bytes', -bytes)
  local wakes = cold().go_on_after(gone, 'removed', now)
  forget(now)
  save()
  cold().tell_producers(#gone, now)
  wake_workers(wakes, now)
end
return { 'ok', known, states }
