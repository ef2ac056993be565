-- The mirror of queues in Postgres 15 and newer: schema `reliq`, version 1. `Mirror.init` runs this file once, as the owner
-- of the schema; the programs that write later need no right to change it (docs/how-to/mirror.md has the roles).
--
-- What it is made for: `items` has a row for each item that still exists in Redis, in the state in which the follower met
-- it last. Rows come and go all day, so it is kept small by its autovacuum settings, and its updates stay on their page
-- (fillfactor) because no index has a column that changes. Ids of finished items are only ever added, and dropped by
-- whole partitions.

CREATE SCHEMA IF NOT EXISTS reliq;

CREATE TABLE reliq.schema_version (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- A queue, its generation, and how far its follower is. `position` is the id of the last journal entry whose items are in
-- here; it is written in the transaction that writes them, so that each entry counts exactly once.
CREATE TABLE reliq.queues (
    queue text PRIMARY KEY,
    epoch bigint NOT NULL,
    state text NOT NULL DEFAULT 'following' CHECK (state IN ('following', 'resyncing', 'rebuilding', 'stopped')),
    position text NOT NULL DEFAULT '',
    settings jsonb NOT NULL DEFAULT '{}',
    crons jsonb NOT NULL DEFAULT '[]',
    generation bigint NOT NULL DEFAULT 0, -- counts full resynchronisations: rows of an older one are not in Redis any more
    top_stamp bigint NOT NULL DEFAULT 0, -- the highest stamp that was ever seen
    server text NOT NULL DEFAULT '', -- which run of which server `position` is of; written when a resynchronisation is done
    journal_entries bigint NOT NULL DEFAULT 0,
    journal_max bigint NOT NULL DEFAULT 0,
    follower text,
    followed_at timestamptz, -- when the follower last wrote, also when there was nothing to write
    lag_items bigint NOT NULL DEFAULT 0,
    lag_seconds double precision NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The checkpoint rows: one for each live item.
CREATE TABLE reliq.items (
    queue text NOT NULL,
    id bytea NOT NULL, -- as Redis has it: 16 bytes of a UUID, or text
    stamp bigint NOT NULL, -- order and time of its enqueue, see lua/_stamp.lua
    state text NOT NULL CHECK (state IN ('queued', 'scheduled', 'in_progress', 'orphaned', 'dead')),
    body bytea NOT NULL, -- the record without its stamp: payload, headers, codecs
    history text NOT NULL DEFAULT '', -- as in Redis, without the receipt
    at_ms bigint, -- due, set aside or dead since, on the server's clock
    error text NOT NULL DEFAULT '',
    group_name text NOT NULL DEFAULT '',
    checkpoint bytea NOT NULL DEFAULT '',
    batch bytea NOT NULL DEFAULT '',
    generation bigint NOT NULL DEFAULT 0, -- -1: the server was replaced or restarted, and does not know it any more
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, id)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.02
);
CREATE INDEX items_in_order ON reliq.items (queue, stamp);

-- Ids that have ended and had a row: they are refused after a rebuild as they were before.
CREATE TABLE reliq.ended (
    queue text NOT NULL,
    id bytea NOT NULL,
    marker bytea NOT NULL, -- as Redis has it: how, when, by which receipt, with which result
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (queue, id, ended_at)
) PARTITION BY RANGE (ended_at);
CREATE TABLE reliq.ended_default PARTITION OF reliq.ended DEFAULT;

-- Makes the partitions for the next two days, and drops those whose ids are all older than `age`. With the owner's rights,
-- so that the follower needs none of them. A day that has rows among the rest already stays there, and is emptied by age.
CREATE FUNCTION reliq.keep_ended(age interval) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    day date;
    found record;
BEGIN
    FOR ahead IN 1..2 LOOP
        day := (now() AT TIME ZONE 'UTC')::date + ahead;
        IF to_regclass(format('reliq.ended_%s', to_char(day, 'YYYYMMDD'))) IS NULL AND NOT EXISTS (
            SELECT FROM reliq.ended_default WHERE ended_at >= day::timestamp AT TIME ZONE 'UTC'
        ) THEN
            EXECUTE format(
                'CREATE TABLE reliq.ended_%s PARTITION OF reliq.ended FOR VALUES FROM (%L) TO (%L)',
                to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
            );
        END IF;
    END LOOP;
    FOR found IN
        SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent = 'reliq.ended'::regclass AND relname ~ '^ended_[0-9]{8}$'
    LOOP
        IF (to_date(right(found.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' < now() - age THEN
            EXECUTE format('DROP TABLE reliq.%I', found.relname);
        END IF;
    END LOOP;
    DELETE FROM reliq.ended_default WHERE ended_at < now() - age;
END $$;
REVOKE ALL ON FUNCTION reliq.keep_ended FROM PUBLIC;

CREATE TABLE reliq.batches (
    queue text NOT NULL,
    batch bytea NOT NULL,
    follow_when text NOT NULL,
    sealed boolean NOT NULL,
    total bigint NOT NULL,
    awaited bigint NOT NULL,
    following bytea NOT NULL, -- the item that follows, packed as in Redis
    PRIMARY KEY (queue, batch)
);

-- durability="checkpointed": the row that is committed before Redis is asked. It goes when the follower meets the item.
CREATE TABLE reliq.pending (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    id bytea NOT NULL,
    body bytea NOT NULL,
    due text NOT NULL DEFAULT '',
    group_name text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (queue, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- Items that were enqueued in a transaction of the user's, on their way to Redis in the order of `number`. A row is
-- relayed once its transaction has committed; docs/decisions/0013-outbox-order.md says what order that gives. The checks
-- make a mistake fail where it is made, also in plain SQL: behind the commit there is nobody to tell.
CREATE TABLE reliq.outbox (
    number bigint GENERATED ALWAYS AS IDENTITY,
    queue text NOT NULL CONSTRAINT queue_name CHECK (queue ~ '^[^[:space:][:cntrl:]{}]{1,200}$'),
    id bytea NOT NULL CONSTRAINT id_of_1_to_200_bytes CHECK (octet_length(id) BETWEEN 1 AND 200),
    body bytea, -- the payload as reliq stores it; or
    payload jsonb, -- as SQL has it: the relay packs it
    headers jsonb NOT NULL DEFAULT '{}' CONSTRAINT headers_are_pairs_of_strings CHECK (
        jsonb_typeof(headers) = 'object' AND NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')
    ), -- beside a payload; a body has its own inside
    due text NOT NULL DEFAULT '' CONSTRAINT due_as_in_scripts CHECK (due ~ '^([+]?[0-9]{1,15})?$'),
    group_name text NOT NULL DEFAULT '' CONSTRAINT group_of_at_most_200_bytes CHECK (octet_length(group_name) <= 200),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- a delay counts from here
    PRIMARY KEY (queue, number),
    CONSTRAINT either_body_or_payload CHECK ((body IS NULL) <> (payload IS NULL))
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- Rows of the outbox that no relay can send: set aside with the reason, so that they hold up nobody.
CREATE TABLE reliq.outbox_refused (
    number bigint NOT NULL,
    queue text NOT NULL,
    id bytea NOT NULL,
    body bytea,
    payload jsonb,
    headers jsonb NOT NULL,
    due text NOT NULL,
    group_name text NOT NULL,
    created_at timestamptz NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    error text NOT NULL,
    PRIMARY KEY (queue, number)
);

-- Marks that an item's effects have been committed with the user's own writes: finish_in.
CREATE TABLE reliq.effects (
    queue text NOT NULL,
    id bytea NOT NULL,
    epoch bigint NOT NULL,
    delivery integer NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX effects_by_age ON reliq.effects (queue, done_at, id);

-- What people and programs did to bring a queue back.
CREATE TABLE reliq.recoveries (
    recovery uuid PRIMARY KEY,
    queue text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('rebuild', 'reconcile')),
    state text NOT NULL CHECK (state IN ('planned', 'applying', 'applied', 'verified', 'failed', 'aborted')),
    fingerprint text NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    plan jsonb NOT NULL,
    progress jsonb NOT NULL DEFAULT '{}',
    report jsonb,
    epoch_before bigint,
    epoch_after bigint,
    who text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX recoveries_of_queue ON reliq.recoveries (queue, started_at);

-- Enqueueing from SQL.

-- An id as Redis has it: see lua/README.md.
CREATE FUNCTION reliq.pack_id(id text) RETURNS bytea LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN uuid_send(id::uuid)
    WHEN octet_length(convert_to(id, 'UTF8')) = 16 THEN convert_to(id, 'UTF8') || '\x00'::bytea
    ELSE convert_to(id, 'UTF8')
END;

-- An id as people see it.
CREATE FUNCTION reliq.id_text(id bytea) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN octet_length(id) = 16 THEN encode(id, 'hex')::uuid::text
    ELSE convert_from(rtrim(id, '\x00'::bytea), 'UTF8')
END;

-- A new UUIDv7, packed.
CREATE FUNCTION reliq.new_id() RETURNS bytea LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN set_bit(set_bit(overlay(
    uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
), 52, 1), 53, 1);

ALTER TABLE reliq.outbox ALTER COLUMN id SET DEFAULT reliq.new_id();

-- Key of an advisory lock of the relay of a queue: the active one holds 'relay', one that sleeps also 'asleep'.
CREATE FUNCTION reliq.relay_lock(queue text, purpose text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtextextended('reliq ' || purpose || ' ' || queue, 0);

-- Notifies the relays that sleep. Commits of transactions that notify go one at a time in the whole server, so none
-- does while the relay is awake and looks by itself. The shared lock is what makes that safe: it is had where nobody
-- sleeps, and while it is held, which is to the end of the transaction, the relay doesn't fall asleep.
CREATE FUNCTION reliq.wake_relay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('reliq_outbox', fresh.queue)
    FROM (SELECT DISTINCT queue FROM added) AS fresh
    WHERE NOT pg_try_advisory_xact_lock_shared(reliq.relay_lock(fresh.queue, 'asleep'));
    RETURN NULL;
END $$;
CREATE TRIGGER wake_relay AFTER INSERT ON reliq.outbox
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION reliq.wake_relay();

-- Enqueues in the transaction that calls it: the item exists once that has committed. Returns its id.
--   id: text of 1 to 200 bytes, for a payload that must not be enqueued twice; NULL for a new UUIDv7
--   delay, at: when it is due, counted from this call or absolute; not both
--   headers: object of strings
--   group_name: items of one group are handled one at a time and in order
CREATE FUNCTION reliq.enqueue(
    queue text,
    payload jsonb,
    id text DEFAULT NULL,
    delay interval DEFAULT NULL,
    at timestamptz DEFAULT NULL,
    headers jsonb DEFAULT '{}',
    group_name text DEFAULT NULL
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    key bytea := coalesce(reliq.pack_id(id), reliq.new_id());
    due text := coalesce(
        '+' || floor(extract(epoch FROM nullif(delay, '0')) * 1000)::bigint,
        floor(extract(epoch FROM at) * 1000)::bigint::text,
        ''
    );
BEGIN
    IF delay IS NOT NULL AND at IS NOT NULL THEN
        RAISE 'delay and at exclude each other' USING ERRCODE = 'invalid_parameter_value';
    ELSIF id ~ '[[:cntrl:]]' OR group_name ~ '[[:cntrl:]]' THEN
        RAISE 'an id and a group are printable text' USING ERRCODE = 'invalid_parameter_value';
    ELSIF delay NOT BETWEEN '0' AND '3650 days' OR extract(epoch FROM at) NOT BETWEEN 0 AND 2 ^ 33 THEN
        RAISE 'a delay is 0 s to ten years' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO reliq.outbox (queue, id, payload, headers, due, group_name)
    VALUES (queue, key, payload, coalesce(headers, '{}'), due, coalesce(group_name, ''));
    RETURN reliq.id_text(key);
END $$;

-- A trigger that enqueues each row of a table, as an object with all of its columns or with those that are named:
--   CREATE TRIGGER welcome AFTER INSERT ON customers
--   FOR EACH ROW EXECUTE FUNCTION reliq.enqueue_row('emails', 'id', 'email');
CREATE FUNCTION reliq.enqueue_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry jsonb := to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END);
    columns text[] := TG_ARGV[1:];
BEGIN
    IF TG_NARGS > 1 THEN
        IF NOT entry ?& columns THEN
            RAISE 'table % has not all of the columns %', TG_RELID::regclass, columns
                USING ERRCODE = 'undefined_column';
        END IF;
        entry := (SELECT jsonb_object_agg(name, entry -> name) FROM unnest(columns) AS name);
    END IF;
    PERFORM reliq.enqueue(TG_ARGV[0], entry);
    RETURN coalesce(NEW, OLD);
END $$;

-- Puts rows that were set aside back into the outbox, behind those that wait there. Returns how many.
CREATE FUNCTION reliq.retry_refused(of_queue text) RETURNS bigint LANGUAGE sql VOLATILE
BEGIN ATOMIC
    WITH again AS (
        DELETE FROM reliq.outbox_refused WHERE queue = of_queue
        RETURNING number, queue, id, body, payload, headers, due, group_name, created_at
    ), put AS (
        INSERT INTO reliq.outbox (queue, id, body, payload, headers, due, group_name, created_at)
        SELECT queue, id, body, payload, headers, due, group_name, created_at FROM again ORDER BY number
        RETURNING number
    )
    SELECT count(*) FROM put;
END;

INSERT INTO reliq.schema_version (version) VALUES (1);
