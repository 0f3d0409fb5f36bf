-- +goose Up

-- How many bytes are kept: of a task its payload, result, checkpoint and the data of
-- its events, and of a namespace the sum of those. Of what is there already only what
-- comes to it is counted.
ALTER TABLE tasks ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE volumes (
    namespace TEXT    NOT NULL PRIMARY KEY,
    bytes     INTEGER NOT NULL
) WITHOUT ROWID;
