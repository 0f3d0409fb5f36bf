-- +goose Up

-- What else is known of a node, its labels: a message of codec.
ALTER TABLE nodes ADD COLUMN details BLOB;

-- The node that has a sticky key, whose limit has scope 8, and of tasks the node that
-- each waits for, and until when: their lane is one of that node.
ALTER TABLE limits ADD COLUMN home INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN bound INTEGER;
ALTER TABLE tasks ADD COLUMN bound_until INTEGER;
