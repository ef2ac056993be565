-- needs: journal
-- uses: _ids
-- Where a queue is mirrored, every step that changes items notes their ids in the stream `journal`, in the same script.
-- The mirror reads it and asks how these items are then: the journal says what to look at, never what it was. An entry
-- has fields 'i' with packed ids, 'b' with the id of a batch, and 'q' where settings or recurring items changed.

local JOURNAL_MAX = 1000000 -- entries, about 50 to 200 MB: hours of calls while Postgres is away
local touched = {} -- field, value, field, value ...

local function touch(ids)
  if field.mirrored and #ids > 0 then
    touched[#touched + 1], touched[#touched + 2] = 'i', pack_ids(ids)
  end
end

local function touch_queue()
  if field.mirrored then
    touched[#touched + 1], touched[#touched + 2] = 'q', ''
  end
end

function journaling.may_write()
  permitted('XADD', journal)
  typed(journal, 'stream')
end

function journaling.write()
  if #touched > 0 then
    call('XADD', journal, 'MAXLEN', '~', field.journal_max or whole(JOURNAL_MAX), '*', unpack(touched))
    touched = {}
  end
end
