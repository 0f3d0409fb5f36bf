-- +goose Up

-- What a task remembers from one attempt to the next, numbered from 1. signal is
-- the id of a signal that was taken.
CREATE TABLE troupe.memos (
    task   uuid     NOT NULL,
    n      integer  NOT NULL,
    kind   smallint NOT NULL,
    name   text     NOT NULL,
    at     bigint   NOT NULL, -- 0: no time
    signal uuid,
    data   bytea,
    PRIMARY KEY (task, n)
);

-- Signals that were not taken yet. awaited is true where the task waits for it, and
-- somebody is to move it on.
CREATE TABLE troupe.signals (
    n       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of arrival
    task    uuid    NOT NULL,
    id      uuid    NOT NULL,
    name    text    NOT NULL,
    at      bigint  NOT NULL,
    awaited boolean NOT NULL,
    data    bytea   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX signals_task ON troupe.signals (task, n);
CREATE INDEX signals_awaited ON troupe.signals (task) WHERE awaited;
