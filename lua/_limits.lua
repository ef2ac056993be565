-- needs: meta
-- cold
-- How many items may be claimed now: `max_in_progress` at a time, and `rate` a second with `rate_burst` at once.

local MICROSECONDS = 1000000

-- How much of a second one item takes, and how much of the future may be taken at once, in microseconds.
local function pace()
  local interval = MICROSECONDS / tonumber(field.rate)
  local burst = number_of('rate_burst')
  return interval, interval * (burst > 0 and burst or math.max(1, tonumber(field.rate)))
end

-- Returns how many of the wanted items may be claimed, and the ms until one more may (nil where time does not tell).
function offered.within_limits(wanted, now)
  local wait = nil
  local max_in_progress = number_of('max_in_progress')
  if max_in_progress > 0 then
    wanted = math.max(0, math.min(wanted, max_in_progress - number_of('in_progress')))
  end
  if number_of('rate') > 0 and wanted > 0 then
    local interval, ahead = pace()
    local taken_until = math.max(now, number_of('rate_at'))
    local free = math.floor((now + ahead - taken_until) / interval + 1e-9)
    if free < 1 then
      wait = math.ceil((taken_until + interval - ahead - now) / 1000)
    end
    wanted = math.max(0, math.min(wanted, free))
  end
  return wanted, wait
end

-- Notes that items were claimed. They count where they begin: what is given back unstarted has counted.
function offered.note_rate(claimed, now)
  if number_of('rate') > 0 and claimed > 0 then
    change('rate_at', math.floor(math.max(now, number_of('rate_at')) + claimed * pace()))
  end
end
