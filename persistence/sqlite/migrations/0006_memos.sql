-- +goose Up

-- What a task remembers from one attempt to the next, numbered from 1. signal is
-- the id of a signal that was taken.
CREATE TABLE memos (
    task   BLOB    NOT NULL,
    n      INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    at     INTEGER NOT NULL, -- 0: no time
    signal BLOB,
    data   BLOB,
    PRIMARY KEY (task, n)
);

-- Signals that were not taken yet. awaited is 1 where the task waits for it, and
-- somebody is to move it on.
CREATE TABLE signals (
    n       INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival
    task    BLOB    NOT NULL,
    id      BLOB    NOT NULL,
    name    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    awaited INTEGER NOT NULL,
    data    BLOB    NOT NULL
);
CREATE INDEX signals_task ON signals (task, n);
CREATE INDEX signals_awaited ON signals (task) WHERE awaited = 1;
