-- +goose Up

-- One row a task. Times are microseconds since 1970, cursors attempt<<32 | seq,
-- states the core's numbers. What only the program reads is in life (it changes)
-- and spec (it does not), as numbered fields: see persistence/codec. What may be large
-- stands last, so that reading a row's head does not touch it; a payload or
-- checkpoint that is x'' is too large for a row that is written often, and
-- stands in bodies.
CREATE TABLE tasks (
    n          INTEGER PRIMARY KEY, -- ours alone: rows in order of arrival are written faster
    id         BLOB    NOT NULL UNIQUE,
    namespace  TEXT    NOT NULL,
    state      INTEGER NOT NULL,
    holder     INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    logged     INTEGER NOT NULL, -- cursor of the newest event
    lane       INTEGER,          -- set while anybody may claim it, and
    rank       INTEGER,          -- so is this
    wake_at    INTEGER,          -- set while nobody holds it
    created    INTEGER NOT NULL,
    finished   INTEGER,          -- set in terminal states
    log_start  INTEGER NOT NULL DEFAULT 0,
    trimmed    INTEGER NOT NULL DEFAULT 0,
    queue      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    batch      BLOB,
    unique_key TEXT,
    life       BLOB    NOT NULL,
    spec       BLOB    NOT NULL,
    payload    BLOB,
    checkpoint BLOB,
    result     BLOB,
    birth      BLOB, -- the events of the insert
    ended      BLOB  -- the events of the end
);

-- Those that a task passes through on its way hold numbers only: they order by n
-- what they leave open, and cost half as much to write.
CREATE INDEX listed ON tasks (namespace, created, id);
CREATE INDEX claimable ON tasks (lane, rank) WHERE lane IS NOT NULL;
CREATE INDEX waking ON tasks (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX held ON tasks (holder) WHERE holder > 0;
CREATE INDEX ended ON tasks (state, trimmed, finished) WHERE finished IS NOT NULL;
CREATE INDEX unfortunate ON tasks (namespace, created, id) WHERE state >= 6;
CREATE INDEX batched ON tasks (batch, created, id) WHERE batch IS NOT NULL;
CREATE UNIQUE INDEX live_keys ON tasks (namespace, kind, unique_key) WHERE unique_key IS NOT NULL AND finished IS NULL;

CREATE TABLE bodies (
    task BLOB    NOT NULL,
    part INTEGER NOT NULL, -- 1 payload, 2 checkpoint
    data BLOB    NOT NULL,
    PRIMARY KEY (task, part)
) WITHOUT ROWID;

-- The events between birth and end, all of one mutation in one row.
CREATE TABLE segments (
    task BLOB    NOT NULL,
    last INTEGER NOT NULL, -- cursor of the last of them
    data BLOB    NOT NULL,
    PRIMARY KEY (task, last)
) WITHOUT ROWID;

CREATE TABLE labels (
    namespace TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    created   INTEGER NOT NULL,
    task      BLOB    NOT NULL,
    PRIMARY KEY (namespace, key, value, created, task)
) WITHOUT ROWID;

CREATE TABLE requests (
    namespace TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    hash      BLOB    NOT NULL,
    task      BLOB    NOT NULL,
    expires   INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX requests_task ON requests (task);
CREATE INDEX requests_expires ON requests (expires);

CREATE TABLE lanes (
    id        INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    queue     TEXT NOT NULL,
    kind      TEXT NOT NULL,
    demand    TEXT NOT NULL
);

CREATE TABLE queues (
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    paused    INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;

-- AUTOINCREMENT: a number is never used again, even after its row has gone.
CREATE TABLE nodes (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    started     INTEGER NOT NULL,
    seen        INTEGER NOT NULL,
    left        INTEGER NOT NULL
);

CREATE TABLE counts (
    namespace TEXT    NOT NULL,
    queue     TEXT    NOT NULL,
    state     INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (namespace, queue, state)
) WITHOUT ROWID;

CREATE TABLE batch_counts (
    batch     BLOB    NOT NULL,
    namespace TEXT    NOT NULL,
    state     INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (batch, namespace, state)
) WITHOUT ROWID;
