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
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock

enter({
  'cancelled_places', 'in_progress', 'enqueued', 'finished', 'removed', 'remembered', 'paused_claim', 'paused_enqueue',
}, true)
local now_score = whole(math.floor(clock() / 1000))
return {
  'ok', known,
  {
    'queued', call('LLEN', queued) - number_of('cancelled_places'),
    'scheduled', call('ZCARD', scheduled),
    'in_progress', number_of('in_progress'),
    'orphaned', call('ZCARD', orphaned),
    'dead', call('ZCARD', dead),
    'enqueued', number_of('enqueued'),
    'finished', number_of('finished'),
    'removed', number_of('removed'),
    'remembered', number_of('remembered'),
    'claims', call('ZCARD', leases),
    'expired_claims', call('ZCOUNT', leases, '-inf', now_score),
    'due', call('ZCOUNT', scheduled, '-inf', now_score),
    'paused_claim', field.paused_claim and 1 or 0,
    'paused_enqueue', field.paused_enqueue and 1 or 0,
  },
  all_settings(),
}
