-- needs: meta items attempts scheduled orphaned dead
-- uses: _ids _history
-- Where items are. Each question costs a few look-ups, however many items there are: `_history` says how.

local function place_of(record, history, claimed_stamp)
  if history then
    return byte(history) == IN_PROGRESS_AGAIN and 'in_progress' or 'queued'
  end
  return (read_stamp(record) or 0) <= claimed_stamp and 'in_progress' or 'queued'
end

-- Returns for each id its state ('' for an unknown one), and the records and histories.
local function states_of(ids)
  local records = call('HMGET', items, unpack(ids))
  local histories = call('HMGET', attempts, unpack(ids))
  local due = call('ZMSCORE', scheduled, unpack(ids))
  local aside = call('ZMSCORE', orphaned, unpack(ids))
  local died = call('ZMSCORE', dead, unpack(ids))
  local claimed_stamp = tonumber(call('HGET', meta, 'claimed_stamp')) or -1
  local states = {}
  for i = 1, #ids do
    local record = records[i]
    if died[i] then
      states[i] = 'dead'
    elseif aside[i] then
      states[i] = 'orphaned'
    elseif not record then
      states[i] = ''
    elseif has_ended(record) then
      states[i] = string.find(record, '^[fFpP]', 8) and 'finished' or 'removed'
    elseif due[i] then
      states[i] = 'scheduled'
    else
      states[i] = place_of(record, histories[i], claimed_stamp)
    end
  end
  return states, records, histories, { scheduled = due, orphaned = aside, dead = died }
end

-- The ids among `ids` whose state is one of `wanted`, and their indexes.
local function in_states(ids, states, wanted)
  local chosen, at = {}, {}
  for i = 1, #ids do
    if wanted[states[i]] then
      chosen[#chosen + 1], at[#at + 1] = ids[i], i
    end
  end
  return chosen, at
end
