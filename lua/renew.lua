#!lua flags=allow-oom
-- renew: moves the deadline of the claims that hold the given items to lease_ms from now, never back. A claim is one
-- lease: renewing one of its items renews what it still holds. Safe to repeat.
-- Returns {'ok', epoch, indexes (from 0) of the items that are not held under their receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _lease
local meta = KEYS[1] -- hash: epoch, settings, counters
local claims = KEYS[2] -- hash: receipt -> ids that it holds
local leases = KEYS[3] -- zset: receipt by deadline in ms
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
local lease_ms = ARGV[3] -- new length of the lease, from now
-- ARGV[4...]: runs of receipt, number of ids, ids

enter({})
permitted('ZADD', leases)
local deadline = whole(math.floor(clock() / 1000) + tonumber(lease_ms))
local lost, renewed, from, base = {}, {}, 4, 0
while from < #ARGV do
  local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
  local mine, others = split_claim(receipt, { unpack(ARGV, from + 2, from + 1 + size) })
  for _, i in ipairs(others) do
    lost[#lost + 1] = base + i - 1
  end
  if #mine > 0 then
    renewed[#renewed + 1], renewed[#renewed + 2] = deadline, receipt
  end
  base = base + size
  from = from + 2 + size
end
if #renewed > 0 then
  call('ZADD', leases, 'XX', 'GT', unpack(renewed))
end
return { 'ok', known, lost }
