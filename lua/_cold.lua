-- Around the parts that most calls never need: they are defined when the first of them is asked for, because every
-- definition costs a call about as much as an item does. What they offer to the rest is a field of `offered`.
cold = function()
  local offered = {}
  -- <cold parts>
  cold = function()
    return offered
  end
  return offered
end
