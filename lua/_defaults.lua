-- What settings are that nobody has set: here once, for the scripts that go by them and for `_settings`, which tells
-- them. A setting that is not named here is 0 then: no bound.

local DEFAULT_GROUP_LIMIT = 1
local DEFAULT_MAX_ATTEMPTS = 5
local DEFAULT_MAX_DELIVERIES = 10
local DEFAULT_EXPIRY = 'requeue'
local DEFAULT_RETRY = 'later'
local DEFAULT_BACKOFF_BASE_MS = 1000
local DEFAULT_BACKOFF_CAP_MS = 3600000
local DEFAULT_FINISHED_AGE_MS = 3600000 -- a repeat of an enqueue later than this is a new item
local DEFAULT_FINISHED_COUNT = 1000000 -- about 100 MB of ids
