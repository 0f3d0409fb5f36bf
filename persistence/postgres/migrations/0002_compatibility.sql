-- +goose Up

-- Who may still work with this schema: programs that know version least of it. A
-- migration that only adds leaves it alone, so that nodes can be replaced one by
-- one. One that takes away what programs used until then raises it to the first
-- version that did without; until the last of the older ones has gone, it waits.
CREATE TABLE troupe.compatibility (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    least bigint  NOT NULL
);
INSERT INTO troupe.compatibility (least) VALUES (1);
