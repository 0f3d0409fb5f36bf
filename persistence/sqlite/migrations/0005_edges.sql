-- +goose Up

-- A task waits for others: an edge for each, until it waits no more. done is 1 where
-- the parent has ended, and 2 where the child cannot do without it.
CREATE TABLE edges (
    parent BLOB    NOT NULL,
    child  BLOB    NOT NULL,
    strict INTEGER NOT NULL,
    done   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (child, parent)
) WITHOUT ROWID;
CREATE INDEX edges_parent ON edges (parent) WHERE done = 0;
CREATE INDEX edges_done ON edges (child) WHERE done > 0;
