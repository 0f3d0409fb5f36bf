-- +goose Up

-- Limits of the whole cluster: who may not start is parked on one. A row is there
-- once a limit was set or used; scopes are the core's numbers.
CREATE TABLE limits (
    id           INTEGER PRIMARY KEY,
    scope        INTEGER NOT NULL,
    namespace    TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    ceiling      INTEGER, -- at most so much in use; NULL: any amount
    used         INTEGER NOT NULL DEFAULT 0,
    rate_count   INTEGER NOT NULL DEFAULT 0,
    rate_per     INTEGER NOT NULL DEFAULT 0, -- microseconds
    next         INTEGER NOT NULL DEFAULT 0, -- when the next start is due, of a rate
    called       INTEGER NOT NULL DEFAULT 0, -- for so much, those called to try again are expected
    called_until INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, namespace, name)
);
CREATE INDEX rated ON limits (id) WHERE rate_count > 0;
CREATE INDEX pools ON limits (name) WHERE scope = 1;

ALTER TABLE tasks ADD COLUMN parked INTEGER;                  -- the limit; negative where it has not got as much as this one asks for
ALTER TABLE tasks ADD COLUMN needs  INTEGER;                  -- how much of it
ALTER TABLE tasks ADD COLUMN called INTEGER NOT NULL DEFAULT 0; -- was parked, and may try again
CREATE INDEX parked ON tasks (parked, rank) WHERE parked IS NOT NULL;
