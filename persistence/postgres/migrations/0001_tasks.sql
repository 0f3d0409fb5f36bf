-- +goose Up

-- One row a task. Times are microseconds since 1970, cursors attempt<<32 | seq,
-- states the core's numbers. What only the program reads is in life (it changes)
-- and spec (it does not), as numbered fields: see persistence/codec.
--
-- Those that live and those that ended stand apart. The first table stays as
-- small as what there is to do, so it is cleaned up in no time however much goes
-- through it; the second is only ever added to, until retention takes the oldest.
CREATE TABLE troupe.tasks (
    n          bigint   NOT NULL, -- order of arrival
    id         uuid     NOT NULL,
    namespace  text     NOT NULL,
    state      smallint NOT NULL,
    holder     bigint   NOT NULL,
    attempt    integer  NOT NULL,
    logged     bigint   NOT NULL, -- cursor of the newest event
    lane       bigint,            -- set while anybody may claim it, and
    rank       bigint,            -- so is this
    wake_at    bigint,            -- set while nobody holds it
    created    bigint   NOT NULL,
    finished   bigint,            -- set in terminal states
    log_start  bigint   NOT NULL DEFAULT 0,
    trimmed    boolean  NOT NULL DEFAULT false,
    queue      text     NOT NULL,
    kind       text     NOT NULL,
    batch      uuid,
    unique_key text,
    life       bytea    NOT NULL,
    spec       bytea    NOT NULL,
    payload    bytea,
    checkpoint bytea,
    result     bytea,
    birth      bytea, -- the events of the insert
    ended      bytea  -- the events of the end
) PARTITION BY RANGE (state);

CREATE TABLE troupe.tasks_live PARTITION OF troupe.tasks FOR VALUES FROM (MINVALUE) TO (5)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
          autovacuum_vacuum_cost_delay = 0);
CREATE TABLE troupe.tasks_ended PARTITION OF troupe.tasks FOR VALUES FROM (5) TO (MAXVALUE)
    WITH (autovacuum_vacuum_scale_factor = 0.05);

-- A change of a held task touches none of these columns, so it is a heap-only
-- update.
CREATE UNIQUE INDEX live_id ON troupe.tasks_live (id);
CREATE INDEX live_listed ON troupe.tasks_live (namespace, created, id);
CREATE INDEX live_claimable ON troupe.tasks_live (lane, rank, n) WHERE lane IS NOT NULL;
CREATE INDEX live_waking ON troupe.tasks_live (wake_at, n) WHERE wake_at IS NOT NULL;
CREATE INDEX live_held ON troupe.tasks_live (holder, id) WHERE holder > 0;
CREATE INDEX live_batched ON troupe.tasks_live (batch, created, id) WHERE batch IS NOT NULL;
CREATE UNIQUE INDEX live_keys ON troupe.tasks_live (namespace, kind, unique_key) WHERE unique_key IS NOT NULL;

CREATE UNIQUE INDEX ended_id ON troupe.tasks_ended (id);
CREATE INDEX ended_listed ON troupe.tasks_ended (namespace, created, id);
CREATE INDEX ended_finished ON troupe.tasks_ended (state, trimmed, finished);
CREATE INDEX ended_unfortunate ON troupe.tasks_ended (namespace, created, id) WHERE state >= 6;
CREATE INDEX ended_batched ON troupe.tasks_ended (batch, created, id) WHERE batch IS NOT NULL;

-- A batch of inserts takes one number and counts on from there.
CREATE SEQUENCE troupe.arrivals INCREMENT BY 8192;

-- The events between birth and end, all of one mutation in one row.
CREATE TABLE troupe.segments (
    task uuid   NOT NULL,
    last bigint NOT NULL, -- cursor of the last of them
    data bytea  NOT NULL,
    PRIMARY KEY (task, last)
);

CREATE TABLE troupe.labels (
    namespace text   NOT NULL,
    key       text   NOT NULL,
    value     text   NOT NULL,
    created   bigint NOT NULL,
    task      uuid   NOT NULL,
    PRIMARY KEY (namespace, key, value, created, task)
);

CREATE TABLE troupe.requests (
    namespace text   NOT NULL,
    key       text   NOT NULL,
    hash      bytea  NOT NULL,
    task      uuid   NOT NULL,
    expires   bigint NOT NULL,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX requests_task ON troupe.requests (task);
CREATE INDEX requests_expires ON troupe.requests (expires);

-- Lanes are never forgotten: a claim goes by those that somebody waits in.
CREATE TABLE troupe.lanes (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    queue     text NOT NULL,
    kind      text NOT NULL,
    demand    text NOT NULL,
    UNIQUE (namespace, queue, kind, demand)
);

CREATE TABLE troupe.queues (
    namespace text    NOT NULL,
    name      text    NOT NULL,
    paused    boolean NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- A node holds its tasks until expires, by the clock of the database.
CREATE TABLE troupe.nodes (
    incarnation bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text        NOT NULL,
    address     text        NOT NULL,
    peer        text        NOT NULL, -- where other nodes reach it, and its key
    started     bigint      NOT NULL,
    seen        timestamptz NOT NULL,
    expires     timestamptz NOT NULL,
    gone        boolean     NOT NULL
) WITH (fillfactor = 50);

-- Counts are the sum over slots: transactions that run at once use different
-- ones, so that none waits for another's commit.
CREATE TABLE troupe.counts (
    namespace text     NOT NULL,
    queue     text     NOT NULL,
    state     smallint NOT NULL,
    slot      smallint NOT NULL,
    n         bigint   NOT NULL,
    PRIMARY KEY (namespace, queue, state, slot)
) WITH (fillfactor = 50);

CREATE TABLE troupe.batch_counts (
    batch     uuid     NOT NULL,
    namespace text     NOT NULL,
    state     smallint NOT NULL,
    slot      smallint NOT NULL,
    n         bigint   NOT NULL,
    PRIMARY KEY (batch, namespace, state, slot)
) WITH (fillfactor = 50);

-- The last transaction of each writer that was committed. Where a connection
-- breaks at a commit, this tells what became of it. The number of a transaction
-- would not: a server that crashes uses those again that it had not yet written.
CREATE TABLE troupe.writers (
    id   uuid        PRIMARY KEY,
    last bigint      NOT NULL,
    used timestamptz NOT NULL
) WITH (fillfactor = 50);
