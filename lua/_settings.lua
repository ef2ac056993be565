-- needs: meta
-- uses: _defaults
-- Settings of a queue, all of them: a field of meta that is missing has its default.

local SETTINGS = {
  'max_length', '0',
  'max_bytes', '0',
  'max_in_progress', '0',
  'rate', '0',
  'rate_burst', '0',
  'group_limit', whole(DEFAULT_GROUP_LIMIT),
  'max_attempts', whole(DEFAULT_MAX_ATTEMPTS),
  'max_deliveries', whole(DEFAULT_MAX_DELIVERIES),
  'expiry', DEFAULT_EXPIRY,
  'retry', DEFAULT_RETRY,
  'backoff_base_ms', whole(DEFAULT_BACKOFF_BASE_MS),
  'backoff_cap_ms', whole(DEFAULT_BACKOFF_CAP_MS),
  'finished_age_ms', whole(DEFAULT_FINISHED_AGE_MS),
  'finished_count', whole(DEFAULT_FINISHED_COUNT),
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
