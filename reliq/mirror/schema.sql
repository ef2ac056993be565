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
    history text NOT NULL DEFAULT '',
    at_ms bigint, -- due, set aside or dead since, on the server's clock
    error text NOT NULL DEFAULT '',
    group_name text NOT NULL DEFAULT '',
    checkpoint bytea NOT NULL DEFAULT '',
    batch bytea NOT NULL DEFAULT '',
    generation bigint NOT NULL DEFAULT 0,
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

-- Items that were enqueued in a transaction of the user's, on their way to Redis. `transaction` and `number` give the
-- order: a row is relayed when no transaction that is older than its own can commit any more.
CREATE TABLE reliq.outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    queue text NOT NULL,
    id bytea NOT NULL,
    body bytea, -- the payload as reliq stores it; or
    payload jsonb, -- as SQL has it: the relay packs it
    headers jsonb NOT NULL DEFAULT '{}',
    due text NOT NULL DEFAULT '',
    group_name text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((body IS NULL) <> (payload IS NULL))
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- Marks that an item's effects have been committed with the user's own writes: finish_in.
CREATE TABLE reliq.effects (
    queue text NOT NULL,
    id bytea NOT NULL,
    epoch bigint NOT NULL,
    delivery integer NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, id)
);

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

INSERT INTO reliq.schema_version (version) VALUES (1);
