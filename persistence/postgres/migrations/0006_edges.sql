-- +goose Up

-- A task waits for others: an edge for each, until it waits no more. done is 1 where
-- the parent has ended, and 2 where the child cannot do without it.
CREATE TABLE troupe.edges (
    parent uuid     NOT NULL,
    child  uuid     NOT NULL,
    strict boolean  NOT NULL,
    done   smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (child, parent)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX edges_parent ON troupe.edges (parent) WHERE done = 0;
CREATE INDEX edges_done ON troupe.edges (child) WHERE done > 0;
