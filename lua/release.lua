#!lua flags=allow-oom
-- release: gives items back that were not started, to the head of the queue in the order in which they were enqueued.
-- No failure is counted. Repeated with the same receipt it is a quiet yes.
-- Returns {'ok', epoch, indexes (from 0) of the items that are not held under their receipt any more}.
-- Errors: STATE_LOST, STALE_EPOCH, REBUILDING, UNKNOWN_LAYOUT, WRONG_TYPE, NO_RIGHT.
-- uses: _lease _place _wake _journal
local meta = KEYS[1] -- hash: epoch, settings, counters
local items = KEYS[2] -- hash: id -> record, or how the item ended
local queued = KEYS[3] -- list: ids, oldest left
local claims = KEYS[4] -- hash: receipt -> ids that it holds
local leases = KEYS[5] -- zset: receipt by deadline in ms
local attempts = KEYS[6] -- hash: id -> history
local waiting = KEYS[7] -- zset: idle worker by the end of its wait in ms
local wake = KEYS[8] -- list: one token wakes one worker
local journal = KEYS[9] -- stream: ids that changed, where the queue is mirrored
local epoch = ARGV[1] -- epoch that the client knows, or ''
local now_ms = ARGV[2] -- '' for the server's clock
-- ARGV[3...]: runs of receipt, number of ids, ids

enter({ 'in_progress', 'waiting_bytes' })
local now = clock()
may_keep_claims()
may_place_at_head()
permitted('HGET', claims)
typed(claims, 'hash')
typed(leases, 'zset')
look_for_idle()

local lost, back, records, from, base = {}, {}, {}, 3, 0
local settled = {}
while from < #ARGV do
  local receipt, size = ARGV[from], tonumber(ARGV[from + 1])
  local ids = { unpack(ARGV, from + 2, from + 1 + size) }
  local mine, others, left = split_claim(receipt, ids)
  for _, i in ipairs(others) do
    if not given_back_by(ids[i], receipt) then
      lost[#lost + 1] = base + i - 1
    end
  end
  if #mine > 0 then
    local found = call('HMGET', items, unpack(mine))
    local histories = call('HMGET', attempts, unpack(mine))
    local fields = {}
    for i, id in ipairs(mine) do
      local taken, failures, expiries = read_history(histories[i])
      fields[i * 2 - 1], fields[i * 2] = id, write_history('h', taken + 1, failures, expiries, receipt)
      back[#back + 1], records[#back + 1] = id, found[i]
    end
    call('HSET', attempts, unpack(fields))
    settled[#settled + 1] = { receipt, left, #mine }
  end
  base = base + size
  from = from + 2 + size
end
place_at_head(back, records)
touch(back)
add('waiting_bytes', weight(records))
for _, claim in ipairs(settled) do
  keep_claim(unpack(claim))
end
save()
wake_workers(#back, now)
return { 'ok', known, lost }
