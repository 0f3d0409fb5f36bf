-- +goose Up

-- A task waits for a batch: the one callback of it. done once it waits no more.
CREATE TABLE callbacks (
    namespace TEXT    NOT NULL,
    batch     BLOB    NOT NULL,
    task      BLOB    NOT NULL,
    done      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, batch)
) WITHOUT ROWID;
CREATE UNIQUE INDEX callbacks_task ON callbacks (task);
CREATE INDEX callbacks_waiting ON callbacks (task) WHERE done = 0;
