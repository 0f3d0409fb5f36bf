-- +goose Up

-- A schedule submits a task again and again; next_at is its next tick in microseconds
-- after 1970, NULL where none comes.
CREATE TABLE schedules (
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    next_at   INTEGER,
    revision  INTEGER NOT NULL,
    data      BLOB    NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;
