-- +goose Up

-- Limits of the whole cluster: who may not start is parked on one. A row is there
-- once a limit was set or used; scopes are the core's numbers. Whoever takes of a
-- limit, gives back or parks has its row locked, and locks rows in the order of
-- their ids, before those of tasks.
CREATE TABLE troupe.limits (
    id           bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope        smallint NOT NULL,
    namespace    text     NOT NULL,
    name         text     NOT NULL,
    ceiling      bigint, -- at most so much in use; NULL: any amount
    used         bigint   NOT NULL DEFAULT 0,
    rate_count   bigint   NOT NULL DEFAULT 0,
    rate_per     bigint   NOT NULL DEFAULT 0, -- microseconds
    next         bigint   NOT NULL DEFAULT 0, -- when the next start is due, of a rate
    called       bigint   NOT NULL DEFAULT 0, -- for so much, those called to try again are expected
    called_until bigint   NOT NULL DEFAULT 0,
    needs        bigint, -- what the first of those parked asks for; NULL: nobody is
    UNIQUE (scope, namespace, name)
) WITH (fillfactor = 50);

-- Those of which somebody who is parked could have what it asks for.
CREATE INDEX limits_open ON troupe.limits (id)
    WHERE needs IS NOT NULL AND (ceiling IS NULL OR used + needs <= ceiling);
CREATE INDEX limits_rated ON troupe.limits (id) WHERE rate_count > 0;
CREATE INDEX limits_pools ON troupe.limits (name) WHERE scope = 1;

ALTER TABLE troupe.tasks
    ADD COLUMN parked bigint,                         -- the limit; negative where it has not got as much as this one asks for
    ADD COLUMN needs  bigint,                         -- how much of it
    ADD COLUMN home   bigint,                         -- the lane to go back to
    ADD COLUMN called boolean NOT NULL DEFAULT false; -- was parked, and may try again
CREATE INDEX live_parked ON troupe.tasks_live (parked, rank, n) WHERE parked IS NOT NULL;

-- What is swept leaves dead rows where the next sweep begins.
ALTER TABLE troupe.tasks_ended SET (autovacuum_vacuum_cost_delay = 0);
