-- needs: queued scheduled parked
-- uses: _stamp
-- cold
-- The bounds of a queue: how many items may wait, and how many bytes.

-- Items that wait, and the bytes of their records.
local function load_of_queue()
  local length = call('LLEN', queued) - number_of('cancelled_places') + call('ZCARD', scheduled)
  if field.grouped then
    length = length + call('ZCARD', parked)
  end
  return length, number_of('waiting_bytes')
end

local function bytes_of(bodies)
  local bytes = 0
  for i = 1, #bodies do
    bytes = bytes + #bodies[i] + STAMP_BYTES
  end
  return bytes
end

-- Whether so many more items with so many bytes fit. Asks for max_length, waiting_bytes and cancelled_places.
function offered.fits(count, bytes)
  local max_length, max_bytes = number_of('max_length'), number_of('max_bytes')
  local length, load = load_of_queue()
  return not (max_length > 0 and length + count > max_length or max_bytes > 0 and load + bytes > max_bytes),
    whole(length) .. ' ' .. whole(max_length) .. ' ' .. whole(load) .. ' ' .. whole(max_bytes)
end

-- What QUEUE_FULL says where items with these bodies do not fit, nil where they do.
function offered.beyond_limits(bodies)
  if number_of('max_length') > 0 or number_of('max_bytes') > 0 then
    local good, detail = offered.fits(#bodies, bytes_of(bodies))
    return not good and detail or nil
  end
  return nil
end
