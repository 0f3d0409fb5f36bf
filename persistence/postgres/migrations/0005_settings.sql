-- +goose Up

-- What is set of a queue beside that it is paused, and of a kind: messages of codec.
ALTER TABLE troupe.queues ADD COLUMN settings bytea;
CREATE TABLE troupe.kinds (
    namespace text  NOT NULL,
    name      text  NOT NULL,
    settings  bytea NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- How many may start at once by a rate; 0: a tenth of a second's worth.
ALTER TABLE troupe.limits ADD COLUMN rate_burst bigint NOT NULL DEFAULT 0;

-- Of many keys with a rate, those that somebody waits for.
CREATE INDEX limits_waited ON troupe.limits (id) WHERE rate_count > 0 AND needs IS NOT NULL;
