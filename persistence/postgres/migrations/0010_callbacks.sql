-- +goose Up

-- A task waits for a batch: the one callback of it. done once it waits no more.
CREATE TABLE troupe.callbacks (
    namespace text    NOT NULL,
    batch     uuid    NOT NULL,
    task      uuid    NOT NULL UNIQUE,
    done      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (namespace, batch)
);
CREATE INDEX callbacks_waiting ON troupe.callbacks (batch) WHERE NOT done;
