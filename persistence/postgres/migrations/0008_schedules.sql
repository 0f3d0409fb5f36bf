-- +goose Up

-- A schedule submits a task again and again; next_at is its next tick in microseconds
-- after 1970, NULL where none comes.
CREATE TABLE troupe.schedules (
    namespace text   NOT NULL,
    name      text   NOT NULL COLLATE "C",
    next_at   bigint,
    revision  bigint NOT NULL,
    data      bytea  NOT NULL,
    PRIMARY KEY (namespace, name)
) WITH (fillfactor = 70);
CREATE INDEX schedules_next ON troupe.schedules (next_at) WHERE next_at IS NOT NULL;
