-- +goose Up

-- Results that tasks with the same cache key use again, until expires.
CREATE TABLE results (
    namespace TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    task      BLOB    NOT NULL, -- that made it
    expires   INTEGER NOT NULL,
    result    BLOB    NOT NULL,
    UNIQUE (namespace, kind, key)
);
CREATE INDEX results_expires ON results (expires);
