#!lua flags=allow-oom
-- beat: a worker says that it is there and what it does. Whoever holds the sweep lease, or finds it free, sweeps for
-- the fleet: up to 100 expired leases and due items go back to the queue, as with a claim. A worker that leaves
-- (facts = '') is taken off the list, gives the sweep lease back, and sounds the alarm for itself. Workers that were
-- not seen for FORGET_MS are forgotten. Repeating it changes nothing more.
-- Returns {'ok', epoch, 1 for the one who sweeps, ms until something falls due, a lease ends or a tick comes (-1: no),
-- ms until the next tick of a recurring item (0: it is due; -1: there is none)}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _wake _next _due _expired _ticks _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local scheduled = KEYS[7] -- zset: id by due time in ms
local orphaned = KEYS[8] -- zset: id by the time it was set aside in ms
local dead = KEYS[9] -- zset: id by time of death in ms
local errors = KEYS[10] -- hash: id -> last error
local waiting = KEYS[11] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[12] -- list: one token wakes one worker
local alarm = KEYS[13] -- list: a token wakes the sweeper
local groups = KEYS[14] -- hash: id -> its group
local turns = KEYS[15] -- hash: group -> ids that have the turn
local parked = KEYS[16] -- zset: items that wait for the turn of their group
local members = KEYS[17] -- hash: id -> its batch
local batches = KEYS[18] -- hash: batch -> how far it is, and what follows
local watched = KEYS[19] -- zset: id that somebody waits for, by the end of the wait in ms
local workers = KEYS[20] -- zset: worker by when it was last seen, in ms
local worker_facts = KEYS[21] -- hash: worker -> what it says of itself
local journal = KEYS[22] -- stream: ids that changed, where the queue is mirrored
local ticks = KEYS[23] -- zset: name of a recurring item by its next tick in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local worker = ARGV[3] -- its name
local facts = ARGV[4] -- what it says of itself, '' when it leaves
local sweep_ms = ARGV[5] -- how long the sweep lease is to last; '0': does not sweep

local FORGET_MS = 3600000 -- an hour: time enough to see on a screen who has gone

enter({
  'expiry', 'max_deliveries', 'in_progress', 'waiting_bytes', 'stamp', 'enqueued', 'sweeper', 'sweep_until_ms',
})
local now = clock()
local now_score = math.floor(now / 1000)
if known == '' then
  return { 'ok', known, 0, -1, -1 }
end
permitted('HSET', meta)
permitted('ZADD', workers)
permitted('ZREM', workers)
permitted('HSET', worker_facts)
permitted('HDEL', worker_facts)
permitted('RPUSH', alarm)
typed(workers, 'zset')
typed(worker_facts, 'hash')
typed(alarm, 'list')
local tick, tick_ahead = next_tick(now)
look_for_idle()

local function forget_worker(name)
  call('ZREM', workers, name)
  call('HDEL', worker_facts, name)
end

local mine = field.sweeper == worker
if facts == '' then
  forget_worker(worker)
  if mine then
    call('HSET', meta, 'sweep_until_ms', '0')
    if call('LLEN', alarm) == 0 then -- one token is as loud as many
      call('RPUSH', alarm, '1')
    end
  end
  return { 'ok', known, 0, -1, -1 }
end
for _, name in ipairs(call('ZRANGE', workers, '-inf', whole(now_score - FORGET_MS), 'BYSCORE', 'LIMIT', '0', PAGE)) do
  forget_worker(name)
end
call('ZADD', workers, whole(now_score), worker)
call('HSET', worker_facts, worker, facts)
if sweep_ms == '0' or not mine and number_of('sweep_until_ms') > now_score then
  return { 'ok', known, 0, -1, tick }
end
call('HSET', meta, 'sweeper', worker, 'sweep_until_ms', whole(now_score + tonumber(sweep_ms)))
local count = recover_expired(PAGE, now)
local due = queue_due(now)
wake_workers(count.requeued + count.wakes + due, now)
local next_ms = next_event(now)
return { 'ok', known, 1, tick_ahead < 0 and next_ms or sooner(next_ms, tick_ahead), tick }
