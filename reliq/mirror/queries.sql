-- Every statement of the mirror. `-- name:` stands above each; reliq/mirror/_sql.py reads them.
-- Parameters: %(name)s, and %(name)b where they go as bytes. A literal percent sign is written twice.

-- The schema ----------------------------------------------------------------------------------------------------------

-- name: has_schema
SELECT to_regclass('reliq.schema_version') IS NOT NULL;

-- name: schema_version
SELECT coalesce(max(version), 0) FROM reliq.schema_version;

-- name: take_schema_lock
SELECT pg_advisory_xact_lock(hashtextextended('reliq schema', 0));

-- name: note_schema_version
INSERT INTO reliq.schema_version (version) VALUES (%(version)s);

-- The follower --------------------------------------------------------------------------------------------------------

-- name: take_follower_lock
SELECT pg_try_advisory_lock(hashtextextended('reliq follower ' || %(queue)s::text, 0));

-- name: leave_follower_lock
SELECT pg_advisory_unlock(hashtextextended('reliq follower ' || %(queue)s::text, 0));

-- name: who_follows
SELECT follower FROM reliq.queues WHERE queue = %(queue)s;

-- name: read_queue
SELECT epoch, state, position, generation, server,
    EXISTS (SELECT FROM reliq.items WHERE items.queue = queues.queue)
    OR EXISTS (SELECT FROM reliq.pending WHERE pending.queue = queues.queue)
FROM reliq.queues WHERE queue = %(queue)s;

-- name: add_queue
INSERT INTO reliq.queues (queue, epoch, state) VALUES (%(queue)s, %(epoch)s, 'resyncing') ON CONFLICT DO NOTHING;

-- name: adopt_epoch
UPDATE reliq.queues
SET epoch = %(epoch)s, state = 'resyncing', position = '', server = %(server)s
WHERE queue = %(queue)s;

-- The conditions are what makes every journal entry count once: whoever lost the lock, or reads what another one has read
-- already, changes nothing and gets no row. It comes first in its transaction, so that two never write at the same time.
-- name: advance
UPDATE reliq.queues
SET position = %(position)s, state = 'following', top_stamp = greatest(top_stamp, %(top_stamp)s),
    lag_items = %(lag_items)s, lag_seconds = %(lag_seconds)s,
    journal_entries = %(journal_entries)s, journal_max = %(journal_max)s,
    follower = %(follower)s, followed_at = clock_timestamp()
WHERE queue = %(queue)s AND epoch = %(epoch)s AND generation = %(generation)s AND position = %(before)s
    AND state = 'following'
RETURNING EXISTS (SELECT FROM reliq.items WHERE items.queue = queues.queue),
    EXISTS (SELECT FROM reliq.pending WHERE pending.queue = queues.queue);

-- name: upsert_items
INSERT INTO reliq.items AS old (
    queue, id, stamp, state, body, history, at_ms, error, group_name, checkpoint, batch, generation
)
SELECT %(queue)s, met.*, %(generation)s
FROM unnest(
    %(ids)b::bytea[], %(stamps)b::bigint[], %(states)b::text[], %(bodies)b::bytea[], %(histories)b::text[],
    %(times)b::bigint[], %(errors)b::text[], %(groups)b::text[], %(checkpoints)b::bytea[], %(batches)b::bytea[]
) AS met
ON CONFLICT (queue, id) DO UPDATE SET
    stamp = excluded.stamp,
    state = excluded.state,
    body = CASE WHEN old.stamp = excluded.stamp THEN old.body ELSE excluded.body END, -- kept where it lies
    history = excluded.history,
    at_ms = excluded.at_ms,
    error = excluded.error,
    group_name = excluded.group_name,
    checkpoint = excluded.checkpoint,
    batch = excluded.batch,
    generation = excluded.generation,
    updated_at = now();

-- name: meet_pending
DELETE FROM reliq.pending WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]);

-- name: known_ids
SELECT id FROM reliq.items WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[])
UNION SELECT id FROM reliq.pending WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]);

-- Items that have ended, with their markers, and those that Redis does not know any more, without one.
-- name: end_items
WITH told (id, marker, seconds) AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)b::bytea[], %(markers)b::bytea[], %(seconds)b::float8[])
), left_items AS (
    DELETE FROM reliq.items USING told WHERE items.queue = %(queue)s AND items.id = told.id RETURNING items.id
), left_pending AS (
    DELETE FROM reliq.pending USING told WHERE pending.queue = %(queue)s AND pending.id = told.id RETURNING pending.id
)
INSERT INTO reliq.ended (queue, id, marker, ended_at)
SELECT %(queue)s, told.id, told.marker, to_timestamp(told.seconds)
FROM told
WHERE told.marker IS NOT NULL
    AND (told.id IN (SELECT id FROM left_items) OR told.id IN (SELECT id FROM left_pending))
ON CONFLICT DO NOTHING;

-- A batch is never opened again. Where it is, a failover has lost the seal, and `reconcile` seals it once more.
-- name: upsert_batches
INSERT INTO reliq.batches AS old (queue, batch, follow_when, sealed, total, awaited, following)
SELECT %(queue)s, met.*
FROM unnest(
    %(batches)b::bytea[], %(conditions)b::text[], %(sealed)b::boolean[], %(totals)b::bigint[], %(awaited)b::bigint[],
    %(following)b::bytea[]
) AS met
ON CONFLICT (queue, batch) DO UPDATE SET
    follow_when = excluded.follow_when, sealed = excluded.sealed OR (old.sealed AND old.following = excluded.following),
    total = excluded.total, awaited = excluded.awaited, following = excluded.following;

-- name: drop_batches
DELETE FROM reliq.batches WHERE queue = %(queue)s AND batch = ANY(%(batches)b::bytea[]);

-- name: page_of_batches
SELECT batch FROM reliq.batches WHERE queue = %(queue)s AND batch > %(after)b ORDER BY batch LIMIT %(limit)s;

-- name: save_settings
UPDATE reliq.queues SET settings = %(settings)s::jsonb, crons = %(crons)s::jsonb WHERE queue = %(queue)s;

-- name: begin_resync
UPDATE reliq.queues
SET state = 'resyncing', generation = generation + 1, position = %(position)s, follower = %(follower)s,
    followed_at = clock_timestamp()
WHERE queue = %(queue)s AND epoch = %(epoch)s AND generation = %(generation)s AND state <> 'rebuilding'
RETURNING generation;

-- name: go_on_resyncing
UPDATE reliq.queues
SET followed_at = clock_timestamp(), lag_items = %(lag_items)s, lag_seconds = %(lag_seconds)s,
    journal_entries = %(journal_entries)s, journal_max = %(journal_max)s
WHERE queue = %(queue)s AND epoch = %(epoch)s AND generation = %(generation)s AND state = 'resyncing'
RETURNING true;

-- Rows that the scan did not meet: what moved while it went on, what has ended, and what the server lost.
-- name: page_of_unmet
SELECT id FROM reliq.items
WHERE queue = %(queue)s AND generation >= %(lowest)s AND generation < %(below)s AND id > %(after)b
ORDER BY id LIMIT %(limit)s;

-- name: mark_missing
UPDATE reliq.items SET generation = %(generation)s
WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]) AND generation <> %(generation)s;

-- name: end_resync
UPDATE reliq.queues SET state = 'following', server = %(server)s, followed_at = clock_timestamp()
WHERE queue = %(queue)s AND epoch = %(epoch)s AND generation = %(generation)s AND state = 'resyncing'
RETURNING true;

-- name: note_stopped
UPDATE reliq.queues SET state = 'stopped' WHERE queue = %(queue)s AND state = 'following';

-- name: go_on_following
UPDATE reliq.queues SET state = 'following', follower = %(follower)s WHERE queue = %(queue)s AND state = 'stopped';

-- name: keep_ended
SELECT reliq.keep_ended(make_interval(secs => %(seconds)s));

-- name: status
SELECT queue, epoch, state, lag_items, lag_seconds,
    extract(epoch FROM clock_timestamp() - followed_at)::float8, journal_entries, journal_max,
    (SELECT count(*) FROM reliq.items WHERE items.queue = queues.queue),
    (SELECT count(*) FROM reliq.pending WHERE pending.queue = queues.queue)
FROM reliq.queues
WHERE %(queues)s::text[] IS NULL OR queue = ANY(%(queues)s::text[])
ORDER BY queue;

-- durability="checkpointed" -------------------------------------------------------------------------------------------

-- Nothing is written where the client knows another epoch than the mirror; it is told which one that is. The transaction
-- is what tells its rows from those that were there: to return the number of each takes longer.
-- name: checkpoint
WITH mirrored AS (
    SELECT epoch FROM reliq.queues WHERE queue = %(queue)s
), written AS (
    INSERT INTO reliq.pending (queue, id, body, due, group_name)
    SELECT %(queue)s, new.id, new.body, coalesce(new.due, ''), coalesce(new.group_name, '')
    FROM unnest(%(ids)b::bytea[], %(bodies)b::bytea[], %(dues)b::text[], %(groups)b::text[])
        AS new (id, body, due, group_name), mirrored
    WHERE %(epoch)s::bigint = 0 OR mirrored.epoch = %(epoch)s::bigint
)
SELECT epoch, pg_current_xact_id()::xid::text FROM mirrored;

-- name: checkpoint_again
WITH mirrored AS (
    SELECT epoch FROM reliq.queues WHERE queue = %(queue)s
), written AS (
    INSERT INTO reliq.pending (queue, id, body, due, group_name)
    SELECT %(queue)s, new.id, new.body, coalesce(new.due, ''), coalesce(new.group_name, '')
    FROM unnest(%(ids)b::bytea[], %(bodies)b::bytea[], %(dues)b::text[], %(groups)b::text[])
        AS new (id, body, due, group_name), mirrored
    WHERE %(epoch)s::bigint = 0 OR mirrored.epoch = %(epoch)s::bigint
    ON CONFLICT DO NOTHING
)
SELECT epoch, pg_current_xact_id()::xid::text FROM mirrored;

-- name: withdraw
DELETE FROM reliq.pending
WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]) AND xmin = %(transaction)s::xid;

-- name: page_of_pending
SELECT number, id, body, due, group_name, floor(extract(epoch FROM created_at) * 1000)::bigint FROM reliq.pending
WHERE queue = %(queue)s AND number > %(after)s AND created_at < clock_timestamp() - make_interval(secs => %(age)s)
ORDER BY number LIMIT %(limit)s;

-- Outbox, relay and effects --------------------------------------------------------------------------------------------

-- name: add_to_outbox
INSERT INTO reliq.outbox (queue, id, body, due, group_name)
VALUES (%(queue)s, %(id)s, %(body)s, %(due)s, %(group_name)s);

-- name: mark_effects
INSERT INTO reliq.effects (queue, id, epoch, delivery) VALUES (%(queue)s, %(id)s, %(epoch)s, %(delivery)s)
ON CONFLICT (queue, id) DO NOTHING
RETURNING 1;

-- name: take_relay_lock
SELECT pg_try_advisory_lock(reliq.relay_lock(%(queue)s, 'relay'));

-- name: relay_falls_asleep
SELECT pg_try_advisory_lock(reliq.relay_lock(%(queue)s, 'asleep'));

-- name: relay_wakes
SELECT pg_advisory_unlock(reliq.relay_lock(%(queue)s, 'asleep'));

-- name: listen_to_outbox
LISTEN reliq_outbox;

-- name: epoch_of_mirrored_queue
SELECT epoch FROM reliq.queues WHERE queue = %(queue)s AND state <> 'stopped';

-- As many rows as fit, at least one: a thousand large payloads would be half a gigabyte.
-- name: next_of_outbox
SELECT number, id, body, payload::text, headers, due, group_name, age_ms
FROM (
    SELECT
        *,
        (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint AS age_ms,
        sum(coalesce(octet_length(body), pg_column_size(payload))) OVER (ORDER BY number) AS bytes
    FROM (SELECT * FROM reliq.outbox WHERE queue = %(queue)s ORDER BY number LIMIT %(rows)s) AS first
) AS measured
WHERE bytes <= %(bytes)s OR number = (SELECT min(number) FROM reliq.outbox WHERE queue = %(queue)s)
ORDER BY number;

-- What goes to a mirrored queue is pending until its follower has met it, as with durability="checkpointed".
-- name: checkpoint_outbox
INSERT INTO reliq.pending (queue, id, body, due, group_name)
SELECT %(queue)s, id, body, due, group_name
FROM unnest(%(ids)b::bytea[], %(bodies)b::bytea[], %(dues)b::text[], %(groups)b::text[])
    WITH ORDINALITY AS row (id, body, due, group_name, place)
ORDER BY place
ON CONFLICT (queue, id) DO NOTHING;

-- name: remove_from_outbox
DELETE FROM reliq.outbox WHERE queue = %(queue)s AND number = ANY(%(numbers)b::bigint[]);

-- name: refuse_in_outbox
WITH refused AS (
    DELETE FROM reliq.outbox WHERE queue = %(queue)s AND number = %(number)s
    RETURNING number, queue, id, body, payload, headers, due, group_name, created_at
)
INSERT INTO reliq.outbox_refused (number, queue, id, body, payload, headers, due, group_name, created_at, error)
SELECT *, %(error)s FROM refused;

-- name: outbox_status
SELECT
    queue,
    count(number) AS waiting,
    coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::double precision AS oldest_age,
    (SELECT count(*) FROM reliq.outbox_refused AS refused WHERE refused.queue = known.queue) AS refused,
    EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (classid::bigint << 32) + objid::bigint = reliq.relay_lock(known.queue, 'relay')
    ) AS relayed
FROM (SELECT queue FROM reliq.outbox UNION SELECT queue FROM reliq.outbox_refused) AS known
LEFT JOIN reliq.outbox USING (queue)
GROUP BY queue
ORDER BY queue;

-- Whether a relay of each queue is active, also of those that have nothing in the outbox.
-- name: relayed
SELECT queue, EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32) + objid::bigint = reliq.relay_lock(queue, 'relay')
)
FROM unnest(%(queues)s::text[]) AS queue;

-- name: old_effects
SELECT id, done_at FROM reliq.effects
WHERE queue = %(queue)s AND done_at < now() - make_interval(secs => %(age)s)
    AND (done_at, id) > (%(done_at)s, %(id)s)
ORDER BY done_at, id
LIMIT %(rows)s;

-- name: forget_effects
DELETE FROM reliq.effects WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]);

-- Rebuild and reconcile -----------------------------------------------------------------------------------------------

-- name: recovery_lock
SELECT pg_try_advisory_lock(hashtextextended('reliq rebuild ' || %(queue)s, 0));

-- name: recovery_unlock
SELECT pg_advisory_unlock(hashtextextended('reliq rebuild ' || %(queue)s, 0));

-- name: recovery_lock_holder
SELECT coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'this machine'), l.pid
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('reliq rebuild ' || %(queue)s, 0);

-- name: recovery_source
SELECT epoch, state, position, top_stamp, lag_items, lag_seconds,
    extract(epoch FROM now() - followed_at)::float8, coalesce(follower, ''), settings, crons
FROM reliq.queues WHERE queue = %(queue)s;

-- name: recovery_counts
SELECT state, count(*), max(stamp) FROM reliq.items WHERE queue = %(queue)s GROUP BY state;

-- name: recovery_others
SELECT
    (SELECT count(*) FROM reliq.pending AS p WHERE p.queue = %(queue)s
        AND NOT EXISTS (SELECT FROM reliq.items AS i WHERE i.queue = p.queue AND i.id = p.id)
        AND NOT EXISTS (SELECT FROM reliq.ended AS e WHERE e.queue = p.queue AND e.id = p.id)),
    (SELECT count(DISTINCT id) FROM reliq.ended
        WHERE queue = %(queue)s AND ended_at > now() - make_interval(secs => %(age)s)),
    (SELECT count(*) FROM reliq.batches WHERE queue = %(queue)s);

-- name: recovery_unfinished
SELECT recovery, fingerprint, options, plan, progress, state, epoch_after, who
FROM reliq.recoveries
WHERE queue = %(queue)s AND kind = 'rebuild' AND state IN ('applying', 'applied')
ORDER BY started_at DESC LIMIT 1;

-- name: recovery_find
SELECT recovery, fingerprint, options, plan, progress, state, epoch_after, who
FROM reliq.recoveries WHERE queue = %(queue)s AND recovery = %(recovery)s;

-- name: recovery_times
SELECT clock_timestamp(), clock_timestamp() - make_interval(secs => %(age)s);

-- name: recovery_last
SELECT recovery, fingerprint, options, plan, progress, state, epoch_after, who
FROM reliq.recoveries WHERE queue = %(queue)s AND kind = 'rebuild' ORDER BY started_at DESC LIMIT 1;

-- name: recovery_status
SELECT kind, state, epoch_after, who, progress, report, started_at
FROM reliq.recoveries WHERE queue = %(queue)s ORDER BY started_at DESC LIMIT %(limit)s;

-- name: recovery_begin
-- The row of the queue is taken first: a follower that is in a transaction ends it, a later one finds the new epoch.
WITH fenced AS (
    UPDATE reliq.queues SET epoch = %(epoch_after)s, state = 'rebuilding', position = '', follower = NULL
    WHERE queue = %(queue)s AND epoch = %(epoch_before)s
    RETURNING queue
)
INSERT INTO reliq.recoveries
    (recovery, queue, kind, state, fingerprint, options, plan, epoch_before, epoch_after, who)
SELECT %(recovery)s, queue, 'rebuild', 'applying', %(fingerprint)s, %(options)s::jsonb, %(plan)s::jsonb,
    %(epoch_before)s, %(epoch_after)s, %(who)s
FROM fenced
RETURNING recovery;

-- name: recovery_abort_earlier
UPDATE reliq.recoveries SET state = 'aborted', finished_at = now(), updated_at = now()
WHERE queue = %(queue)s AND kind = 'rebuild' AND state IN ('applying', 'applied') AND recovery <> %(recovery)s;

-- name: recovery_adopt_pending
-- Rows that Redis never got, or that were lost with it, become items behind all others, in the order of their commits.
WITH top AS (
    SELECT greatest(q.top_stamp, (SELECT max(i.stamp) FROM reliq.items AS i WHERE i.queue = q.queue)) AS stamp
    FROM reliq.queues AS q WHERE q.queue = %(queue)s
), nowhere AS (
    SELECT p.*, row_number() OVER (ORDER BY p.number) AS place,
        ((extract(epoch FROM p.created_at) - 1735689600) * 200000)::bigint AS tick,
        CASE
            WHEN p.due = '' THEN NULL
            WHEN p.due LIKE '+%%' THEN (extract(epoch FROM p.created_at) * 1000)::bigint + p.due::bigint
            ELSE p.due::bigint
        END AS due_ms
    FROM reliq.pending AS p
    WHERE p.queue = %(queue)s
        AND NOT EXISTS (SELECT FROM reliq.items AS i WHERE i.queue = p.queue AND i.id = p.id)
        AND NOT EXISTS (SELECT FROM reliq.ended AS e WHERE e.queue = p.queue AND e.id = p.id)
), placed AS (
    SELECT n.*, greatest(top.stamp, max(n.tick - n.place) OVER (ORDER BY n.number)) + n.place AS stamp,
        n.due_ms > extract(epoch FROM now()) * 1000 AS later
    FROM nowhere AS n CROSS JOIN top
), put AS (
    INSERT INTO reliq.items (queue, id, stamp, state, body, history, at_ms, group_name, created_at)
    SELECT queue, id, stamp, CASE WHEN later THEN 'scheduled' ELSE 'queued' END, body,
        CASE WHEN later THEN 'q 0 0 0 ' ELSE '' END, CASE WHEN later THEN due_ms END, group_name, created_at
    FROM placed
    RETURNING stamp
), gone AS (
    DELETE FROM reliq.pending WHERE queue = %(queue)s
)
UPDATE reliq.queues SET top_stamp = greatest(top_stamp, (SELECT max(stamp) FROM put)) WHERE queue = %(queue)s;

-- name: recovery_progress
UPDATE reliq.recoveries SET progress = %(progress)s::jsonb, state = %(state)s, updated_at = now()
WHERE recovery = %(recovery)s;

-- name: recovery_items
SELECT id, convert_to(state, 'UTF8'), substring(int8send(stamp) FROM 3) || body, convert_to(history, 'UTF8'),
    CASE WHEN state IN ('scheduled', 'orphaned', 'dead') THEN convert_to(coalesce(at_ms, 0)::text, 'UTF8') ELSE '' END,
    convert_to(error, 'UTF8'), convert_to(group_name, 'UTF8'), checkpoint, batch
FROM reliq.items
WHERE queue = %(queue)s AND stamp >= %(stamp)s AND (stamp, id) > (%(stamp)s, %(id)b)
ORDER BY stamp, id
LIMIT %(limit)s;

-- name: recovery_ended
SELECT e.id, e.marker, e.ended_at
FROM reliq.ended AS e
WHERE e.queue = %(queue)s AND (e.ended_at, e.id) > (%(since)s, %(id)b)
    AND NOT EXISTS (SELECT FROM reliq.items AS i WHERE i.queue = e.queue AND i.id = e.id)
    AND NOT EXISTS (
        SELECT FROM reliq.ended AS later WHERE later.queue = e.queue AND later.id = e.id AND later.ended_at > e.ended_at
    )
ORDER BY e.ended_at, e.id
LIMIT %(limit)s;

-- name: recovery_ended_since
-- The time of the earliest of the last so many: no more of them come back.
SELECT min(ended_at) FROM (
    SELECT ended_at FROM reliq.ended WHERE queue = %(queue)s AND ended_at > %(since)s
    ORDER BY ended_at DESC LIMIT %(count)s
) AS latest;

-- name: recovery_batches
SELECT b.batch, b.follow_when, b.sealed, b.total, coalesce(m.members, 0), b.following
FROM reliq.batches AS b
LEFT JOIN (
    SELECT batch, count(*) AS members FROM reliq.items WHERE queue = %(queue)s AND batch <> '' GROUP BY batch
) AS m USING (batch)
WHERE b.queue = %(queue)s ORDER BY b.batch;

-- name: recovery_rows_by_id
SELECT id, convert_to(state, 'UTF8'), substring(int8send(stamp) FROM 3) || body, convert_to(history, 'UTF8'),
    CASE WHEN state IN ('scheduled', 'orphaned', 'dead') THEN convert_to(coalesce(at_ms, 0)::text, 'UTF8') ELSE '' END,
    convert_to(error, 'UTF8'), convert_to(group_name, 'UTF8'), checkpoint, batch
FROM reliq.items WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]);

-- name: recovery_settle_held
-- What was in progress has become what the rebuild made of it; ids and histories run beside each other.
UPDATE reliq.items AS i SET state = %(state)s, history = n.history, at_ms = %(at_ms)s, updated_at = now()
FROM unnest(%(ids)b::bytea[], %(histories)b::text[]) AS n (id, history)
WHERE i.queue = %(queue)s AND i.id = n.id AND i.state = 'in_progress';

-- name: recovery_held
-- All rows by parts, a history for those in progress only: no index has the state, and a statement that looks for it
-- goes through all rows, which took longer than a request may at a million.
SELECT id, stamp, CASE state WHEN 'in_progress' THEN history END FROM reliq.items
WHERE queue = %(queue)s AND stamp >= %(stamp)s AND (stamp, id) > (%(stamp)s, %(id)b)
ORDER BY stamp, id LIMIT %(limit)s;

-- name: recovery_verified
WITH opened AS (
    UPDATE reliq.queues SET state = 'following', position = %(position)s, server = %(server)s, lag_items = 0,
        lag_seconds = 0
    WHERE queue = %(queue)s AND epoch = %(epoch)s AND state = 'rebuilding'
)
UPDATE reliq.recoveries SET state = 'verified', updated_at = now(), finished_at = now()
WHERE recovery = %(recovery)s;

-- Where the two sides differ, the rebuild is to be gone through again from its start.
-- name: recovery_report
UPDATE reliq.recoveries SET report = %(report)s::jsonb, updated_at = now(),
    state = CASE WHEN %(ok)s THEN state ELSE 'applying' END,
    progress = CASE WHEN %(ok)s THEN progress ELSE '{}' END
WHERE recovery = %(recovery)s;

-- name: reconcile_states
SELECT id, state FROM reliq.items WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[]);

-- name: reconcile_page
SELECT id, state, stamp FROM reliq.items
WHERE queue = %(queue)s AND stamp >= %(stamp)s AND (stamp, id) > (%(stamp)s, %(id)s)
ORDER BY stamp, id LIMIT %(limit)s;

-- name: reconcile_ended
SELECT DISTINCT ON (id) id, marker FROM reliq.ended WHERE queue = %(queue)s AND id = ANY(%(ids)b::bytea[])
ORDER BY id, ended_at DESC;

-- Both begin with a stamp of six bytes: one that ended after it was enqueued has no row, unless Redis had lost its end.
-- name: reconcile_undone
SELECT DISTINCT i.id FROM reliq.items AS i JOIN reliq.ended AS e ON e.queue = i.queue AND e.id = i.id
WHERE i.queue = %(queue)s AND i.id > %(id)b
    AND substring(int8send(i.stamp) FROM 3) < substring(e.marker FROM 2 FOR 6)
ORDER BY i.id LIMIT %(limit)s;

-- name: reconcile_batches
SELECT batch, follow_when, sealed, total, following FROM reliq.batches
WHERE queue = %(queue)s AND batch = ANY(%(batches)b::bytea[]) ORDER BY batch;

-- name: reconcile_count_members
SELECT batch, count(*) FROM reliq.items WHERE queue = %(queue)s AND batch = ANY(%(batches)b::bytea[]) GROUP BY batch;

-- name: reconcile_members
SELECT id FROM reliq.items WHERE queue = %(queue)s AND batch = %(batch)b AND id > %(after)b ORDER BY id LIMIT %(limit)s;

-- name: reconcile_position
SELECT epoch, state, position FROM reliq.queues WHERE queue = %(queue)s;

-- name: reconcile_lock
SELECT generation FROM reliq.queues WHERE queue = %(queue)s FOR UPDATE;

-- name: reconcile_accept
UPDATE reliq.queues SET top_stamp = %(stamp)s WHERE queue = %(queue)s;

-- name: reconcile_note
INSERT INTO reliq.recoveries (recovery, queue, kind, state, fingerprint, plan, report, who, finished_at)
VALUES (%(recovery)s, %(queue)s, 'reconcile', 'verified', '', '{}', %(report)s::jsonb, %(who)s, now());

-- name: guard_facts
SELECT epoch, state, position, top_stamp FROM reliq.queues WHERE queue = %(queue)s;

-- For a queue that is gone for good, as those of the demo are.
-- name: forget_queue
WITH
    gone_items AS (DELETE FROM reliq.items WHERE queue = %(queue)s),
    gone_ended AS (DELETE FROM reliq.ended WHERE queue = %(queue)s),
    gone_batches AS (DELETE FROM reliq.batches WHERE queue = %(queue)s),
    gone_pending AS (DELETE FROM reliq.pending WHERE queue = %(queue)s),
    gone_outbox AS (DELETE FROM reliq.outbox WHERE queue = %(queue)s),
    gone_refused AS (DELETE FROM reliq.outbox_refused WHERE queue = %(queue)s),
    gone_effects AS (DELETE FROM reliq.effects WHERE queue = %(queue)s),
    gone_recoveries AS (DELETE FROM reliq.recoveries WHERE queue = %(queue)s)
DELETE FROM reliq.queues WHERE queue = %(queue)s;
