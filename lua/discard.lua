#!lua flags=allow-oom
-- discard: removes orphaned and dead items for good. Repeating it changes nothing more.
-- Returns {'ok', epoch, states that the ids had ('' unknown)}: it removed those that were orphaned or dead.
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

enter({ 'removed', 'remembered', 'finished_age_ms', 'finished_count', 'looked_at_ms' })
local now = clock()
may_end_items()
permitted('ZREM', orphaned)
typed(orphaned, 'zset')
permitted('ZREM', dead)
typed(dead, 'zset')
local states = states_of({ unpack(ARGV, 3) })
local ids = in_states({ unpack(ARGV, 3) }, states, { orphaned = true, dead = true })
if #ids > 0 then
  end_items(ids, 'r', '', now)
  call('ZREM', orphaned, unpack(ids))
  call('ZREM', dead, unpack(ids))
  add('removed', #ids)
  forget(now)
  save()
end
return { 'ok', known, states }
