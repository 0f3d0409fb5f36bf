-- +goose Up

-- Results that tasks with the same cache key use again, until expires.
CREATE TABLE troupe.results (
    namespace text   NOT NULL,
    kind      text   NOT NULL,
    key       text   NOT NULL,
    task      uuid   NOT NULL, -- that made it
    expires   bigint NOT NULL,
    result    bytea  NOT NULL,
    PRIMARY KEY (namespace, kind, key)
);
CREATE INDEX results_expires ON troupe.results (expires);
