#!lua
-- put_back_batch: puts a batch into a live queue that has lost it, as a mirror knows it. First it is opened, awaiting
-- nobody, so that put_back can count its members in; then it is sealed, if it was, and followed where it awaits nobody.
-- A batch that is there stays as it is but for the seal. One whose following item the queue knows is through.
-- Repeating it changes nothing more. A queue that is not there gets nothing: that is a rebuild's business.
-- Returns {'ok', epoch, what the batch is now: 'open', 'sealed', 'followed' (by this call) or 'through' (not there)}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _enqueue _batch _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local groups = KEYS[6] -- hash: id -> its group
local members = KEYS[7] -- hash: id -> its batch
local batches = KEYS[8] -- hash: batch -> how far it is, and what follows
local waiting = KEYS[9] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[10] -- list: one token wakes one worker
local journal = KEYS[11] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local batch_id = ARGV[3] -- its id
local phase = ARGV[4] -- 'open' or 'seal'
local follow_when = ARGV[5] -- 'finished' or 'settled'
local in_all = ARGV[6] -- members in all that are not to be put back
local following = ARGV[7] -- the item that follows, packed as in `batches`

enter({ 'stamp', 'enqueued', 'waiting_bytes' })
local now = clock()
field.batched = '1'
cold().may_settle_members()
look_for_idle()
if known == '' then
  return { 'ok', known, 'through' }
end

local function open_batch()
  if call('HEXISTS', items, string.sub(following, 2, 1 + byte(following))) == 1 then
    return 'through'
  end
  local state = cold().write_batch(follow_when, false, tonumber(in_all), 0)
  call('HSET', batches, 'b' .. batch_id, state, 't' .. batch_id, following)
  change_extra('batched', 1)
  return 'open'
end

local function seal_batch(condition, total, awaited)
  call('HSET', batches, 'b' .. batch_id, cold().write_batch(condition, true, total, awaited))
  if awaited > 0 then
    cold().touch_batch(batch_id)
    return 'sealed', 0
  end
  return 'followed', cold().follow_batch(batch_id, now)
end

local condition, is_sealed, total, awaited = cold().read_batch(call('HGET', batches, 'b' .. batch_id) or '')
local outcome, wakes = 'through', 0
if condition and (is_sealed or phase == 'open') then
  return { 'ok', known, is_sealed and 'sealed' or 'open' }
elseif condition then
  outcome, wakes = seal_batch(condition, total, awaited)
elseif phase == 'open' then
  outcome = open_batch()
end
save()
wake_workers(wakes, now)
return { 'ok', known, outcome }
