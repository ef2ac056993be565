-- needs: meta watched
-- Who waits for the end of an item listens on the channel `reliq:{queue}:ended`, and has noted the id in `watched` by
-- the time until which it waits. The message is the id. One that gets lost is made up for: a listener asks again every
-- few seconds.

local function may_notify()
  if field.watched_until_ms then
    permitted('ZREM', watched)
    permitted('ZMSCORE', watched)
    typed(watched, 'zset')
  end
end

local function notify(ids, now)
  if number_of('watched_until_ms') * 1000 < now then
    return
  end
  local channel = string.gsub(meta, 'meta$', 'ended')
  if not redis.acl_check_cmd('PUBLISH', channel, '') then
    return -- the listener asks again in any case
  end
  for i, wanted in ipairs(call('ZMSCORE', watched, unpack(ids))) do
    if wanted then
      call('PUBLISH', channel, ids[i])
      call('ZREM', watched, ids[i])
    end
  end
end
