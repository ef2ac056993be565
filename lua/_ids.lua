-- uses: _stamp
-- Many ids as one string: 'u' and 16 bytes each where all are UUIDs, else 'v' and length byte, id, length byte ...

local UUIDS = 117 -- 'u'

local function pack_ids(ids)
  for i = 1, #ids do
    if #ids[i] ~= 16 then
      local parts = { 'v' }
      for k = 1, #ids do
        parts[k * 2] = char(#ids[k])
        parts[k * 2 + 1] = ids[k]
      end
      return table.concat(parts)
    end
  end
  return 'u' .. table.concat(ids)
end

-- Reads packed ids from the byte `from` on.
local function unpack_ids(packed, from)
  local ids, n = {}, 0
  local uuids = byte(packed, from) == UUIDS
  local at = from + 1
  while at <= #packed do
    local size = 16
    if not uuids then
      size = byte(packed, at)
      at = at + 1
    end
    n = n + 1
    ids[n] = string.sub(packed, at, at + size - 1)
    at = at + size
  end
  return ids
end

-- The values at these indexes.
local function pick(values, at)
  local picked = {}
  for i, k in ipairs(at) do
    picked[i] = values[k]
  end
  return picked
end
