-- needs: meta items queued scheduled attempts groups turns parked members batches watched
-- uses: _wake _pass _batch _watch
-- cold
-- What the end of items, or their death, sets going: the next one of a group, the item that follows a batch, whoever
-- waits for the outcome. A script that uses it enters with the fields stamp, enqueued and waiting_bytes.

function offered.may_go_on()
  if field.grouped or field.batched or field.max_in_progress then
    look_for_idle()
  end
  may_pass_turns()
  offered.may_settle_members()
  may_notify()
end

-- `outcome`: 'finished', 'removed' or 'dead'. Returns how many workers have something to do by it.
function offered.go_on_after(ids, outcome, now)
  if #ids == 0 then
    return 0
  end
  local wakes = field.max_in_progress and #ids or 0 -- each makes room for another one
  if field.grouped then
    wakes = wakes + pass_turns(ids, outcome ~= 'dead')
  end
  if field.batched then
    wakes = wakes + settle_members(ids, outcome, now)
  end
  if field.watched_until_ms then
    notify(ids, now)
  end
  return wakes
end
