#!lua flags=allow-oom
-- redrive: puts the dead items that died first back at the tail of the queue, with their attempts afresh. One that is
-- of a group goes to the head, before those of its group that wait.
-- Repeated with the same token it moves nothing more and gives the same answer.
-- Returns {'ok', epoch, how many it moved}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _requeue _wake _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local attempts = KEYS[4] -- hash: id -> history
local scheduled = KEYS[5] -- zset: id by due time in ms
local orphaned = KEYS[6] -- zset: id by the time it was set aside in ms
local dead = KEYS[7] -- zset: id by time of death in ms
local waiting = KEYS[8] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[9] -- list: one token wakes one worker
local groups = KEYS[10] -- hash: id -> its group
local journal = KEYS[11] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local token = ARGV[3] -- made by the client for this call
local limit = ARGV[4] -- items at most, 1 to 1000

enter({ 'redrive_token', 'redrive_count', 'waiting_bytes' })
if known == '' or field.redrive_token == token then
  return { 'ok', known, number_of('redrive_count') }
end
local now = clock()
permitted('HSET', meta)
may_queue_again()
look_for_idle()
local ids = call('ZRANGE', dead, '0', whole(tonumber(limit) - 1))
if #ids > 0 then
  local states = {}
  for i = 1, #ids do
    states[i] = 'dead'
  end
  queue_again(ids, states, call('HMGET', attempts, unpack(ids)), call('HMGET', items, unpack(ids)), false)
  save()
  wake_workers(#ids, now)
end
call('HSET', meta, 'redrive_token', token, 'redrive_count', #ids)
return { 'ok', known, #ids }
