#!lua flags=allow-oom
-- cancel: removes items that nobody has started: queued and scheduled ones. The place of a queued item stays in the
-- list without its record and is skipped when its turn comes (finding it would cost a walk through the list).
-- Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it removed those that were queued or scheduled.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _stamp _ids _history _end _where
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local attempts = KEYS[3] -- hash: id -> history
local errors = KEYS[4] -- hash: id -> last error
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local finished_order = KEYS[8] -- list: stamp and ids that ended together, oldest left
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: ids

enter({ 'removed', 'cancelled_places', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms' })
local now = clock()
may_end_items()
permitted('ZREM', scheduled)
typed(scheduled, 'zset')
local states = states_of({ unpack(ARGV, 3) })
local queued_ids = in_states({ unpack(ARGV, 3) }, states, { queued = true })
local scheduled_ids = in_states({ unpack(ARGV, 3) }, states, { scheduled = true })
if #queued_ids > 0 then
  mark_ended(queued_ids, 'c', '', pack_stamp(ticks(now)))
  drop_history(queued_ids)
  add('cancelled_places', #queued_ids)
end
if #scheduled_ids > 0 then
  end_items(scheduled_ids, 'r', '', now)
  call('ZREM', scheduled, unpack(scheduled_ids))
  forget(now)
end
if #queued_ids + #scheduled_ids > 0 then
  add('removed', #queued_ids + #scheduled_ids)
  save()
end
return { 'ok', known, states }
