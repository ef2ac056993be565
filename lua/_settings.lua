-- needs: meta
-- Settings of a queue as the scripts read them: a field of meta that is missing has its default.

local SETTINGS = {
  'max_length', '0',
  'max_bytes', '0',
  'max_in_progress', '0',
  'rate', '0',
  'rate_burst', '0',
  'group_limit', '1',
  'max_attempts', '5',
  'max_deliveries', '10',
  'expiry', 'requeue',
  'retry', 'later',
  'backoff_base_ms', '1000',
  'backoff_cap_ms', '3600000',
  'finished_age_ms', '3600000',
  'finished_count', '1000000',
}

-- Returns name, value, name, value ...
local function all_settings()
  local names = {}
  for i = 1, #SETTINGS, 2 do
    names[#names + 1] = SETTINGS[i]
  end
  local values = call('HMGET', meta, unpack(names))
  local result = {}
  for i, name in ipairs(names) do
    result[i * 2 - 1], result[i * 2] = name, values[i] or SETTINGS[i * 2]
  end
  return result
end
