-- +goose Up

-- What is set of a queue beside that it is paused, and of a kind: messages of codec.
ALTER TABLE queues ADD COLUMN settings BLOB;
CREATE TABLE kinds (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    settings  BLOB NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;

-- How many may start at once by a rate; 0: a tenth of a second's worth.
ALTER TABLE limits ADD COLUMN rate_burst INTEGER NOT NULL DEFAULT 0;
