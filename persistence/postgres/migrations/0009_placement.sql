-- +goose Up

-- What else is known of a node, its labels: a message of codec.
ALTER TABLE troupe.nodes ADD COLUMN details bytea;

-- Whether labels have what a selector asks for: of each key one of some values.
-- The lanes that ask for some have it in further lines of demand.
CREATE FUNCTION troupe.matches(selector text, labels jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    'SELECT NOT EXISTS (SELECT FROM jsonb_each(nullif(selector, '''')::jsonb) t(k, v) WHERE NOT v ? coalesce(labels ->> k, ''''))';

-- The node that has a sticky key, whose limit has scope 8, and of tasks the node that
-- each waits for, and until when: their lane is one of that node.
ALTER TABLE troupe.limits ADD COLUMN home bigint NOT NULL DEFAULT 0;
ALTER TABLE troupe.tasks
    ADD COLUMN bound       bigint,
    ADD COLUMN bound_until bigint;
