#!lua flags=no-writes
-- get: everything about items by their ids.
-- Returns {'ok', epoch, now in ms, {state, record or end marker, history, error, due or died or set aside at in ms,
--   group, checkpoint, batch} for each id}; the state is '' for an unknown id, and what there is none of is ''.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
-- uses: _where
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local attempts = KEYS[3] -- hash: id -> history
local errors = KEYS[4] -- hash: id -> last error
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local groups = KEYS[8] -- hash: id -> its group
local checkpoints = KEYS[9] -- hash: id -> how far its work has come
local members = KEYS[10] -- hash: id -> its batch
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: ids

enter({}, true)
local ids = { unpack(ARGV, 3) }
local states, records, histories, scores = states_of(ids)
local reasons = call('HMGET', errors, unpack(ids))
local names = call('HMGET', groups, unpack(ids))
local progress = call('HMGET', checkpoints, unpack(ids))
local of_batch = call('HMGET', members, unpack(ids))
local result = {}
for i = 1, #ids do
  local score = scores[states[i]] and scores[states[i]][i]
  result[i] = {
    states[i], records[i] or '', histories[i] or '', reasons[i] or '', score or '', names[i] or '', progress[i] or '',
    of_batch[i] or '',
  }
end
return { 'ok', known, whole(math.floor(clock() / 1000)), result }
