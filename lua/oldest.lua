#!lua flags=no-writes
-- oldest: how long ago the item was enqueued that stands first in a state: next to be claimed, first to fall due, first
-- lease to end, longest set aside, longest dead.
-- Returns {'ok', epoch, ms, or -1 where the state is empty}.
-- Errors: STATE_LOST, STALE_EPOCH, UNKNOWN_LAYOUT.
-- uses: _stamp _ids
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local scheduled = KEYS[6] -- zset: id by due time in ms
local orphaned = KEYS[7] -- zset: id by the time it was set aside in ms
local dead = KEYS[8] -- zset: id by time of death in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local state = ARGV[3] -- state to look at

enter({}, true)
local zsets = { scheduled = scheduled, orphaned = orphaned, dead = dead }
local LOOK = 1000 -- cancelled places at the head that are passed over

local ids
if state == 'queued' then
  ids = call('LRANGE', queued, '0', '0')
elseif state == 'in_progress' then
  local receipt = call('ZRANGE', leases, '0', '0')[1]
  ids = receipt and unpack_ids(call('HGET', claims, receipt) or '', 1) or {}
else
  ids = call('ZRANGE', zsets[state], '0', '0')
end

local function first_stamp(candidates)
  for _, record in ipairs(#candidates > 0 and call('HMGET', items, unpack(candidates)) or {}) do
    local stamp = record and read_stamp(record)
    if stamp then
      return stamp
    end
  end
  return nil
end

local stamp = first_stamp(ids)
if not stamp and state == 'queued' then
  stamp = first_stamp(call('LRANGE', queued, '0', whole(LOOK - 1)))
end
return { 'ok', known, stamp and whole(math.max(0, math.floor(clock() / 1000 - ticks_ms(stamp)))) or -1 }
