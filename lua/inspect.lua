#!lua flags=no-writes
-- inspect: how many items are in each state, the totals since the queue was made, and its settings.
-- enqueued = queued + scheduled + in_progress + orphaned + dead + finished + removed, always.
-- Returns {'ok', epoch, {name, value, ...}, {setting, value, ...}}.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
-- uses: _settings
local meta = KEYS[1] -- hash: epoch, settings, counters
local queued = KEYS[2] -- list: ids, oldest left
local leases = KEYS[3] -- zset: receipt by deadline in ms
local scheduled = KEYS[4] -- zset: id by due time in ms
local orphaned = KEYS[5] -- zset: id by the time it was set aside in ms
local dead = KEYS[6] -- zset: id by time of death in ms
local parked = KEYS[7] -- zset: items that wait for the turn of their group
local waiting = KEYS[8] -- zset: idle worker by the end of its wait in ms
local workers = KEYS[9] -- zset: worker by when it was last seen, in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock

enter({
  'cancelled_places', 'in_progress', 'enqueued', 'finished', 'removed', 'remembered', 'paused_claim', 'paused_enqueue',
  'waiting_bytes',
}, true)
local now_score = whole(math.floor(clock() / 1000))
local behind = call('ZCARD', parked)
return {
  'ok', known,
  {
    'queued', call('LLEN', queued) - number_of('cancelled_places') + behind,
    'scheduled', call('ZCARD', scheduled),
    'in_progress', number_of('in_progress'),
    'orphaned', call('ZCARD', orphaned),
    'dead', call('ZCARD', dead),
    'enqueued', whole(number_of('enqueued')),
    'finished', whole(number_of('finished')),
    'removed', whole(number_of('removed')),
    'remembered', number_of('remembered'),
    'claims', call('ZCARD', leases),
    'expired_claims', call('ZCOUNT', leases, '-inf', now_score),
    'due', call('ZCOUNT', scheduled, '-inf', now_score),
    'blocked', behind,
    'waiting_bytes', whole(number_of('waiting_bytes')),
    'idle_workers', call('ZCOUNT', waiting, now_score, '+inf'),
    'workers', call('ZCARD', workers),
    'paused_claim', field.paused_claim and 1 or 0,
    'paused_enqueue', field.paused_enqueue and 1 or 0,
  },
  all_settings(),
}
