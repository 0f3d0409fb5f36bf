-- +goose Up

-- The credentials we gave out. Of a key there is only a hash; scopes are names with
-- spaces between. Times are microseconds after 1970, NULL where there is none.
CREATE TABLE troupe.api_keys (
    id        uuid   NOT NULL PRIMARY KEY,
    namespace text   NOT NULL,
    name      text   NOT NULL,
    hint      text   NOT NULL,
    hash      bytea  NOT NULL UNIQUE,
    scopes    text   NOT NULL,
    created   bigint NOT NULL,
    expires   bigint,
    used      bigint,
    revoked   bigint
) WITH (fillfactor = 70);
CREATE INDEX api_keys_listed ON troupe.api_keys (namespace, id);
-- When each ceased to open anything.
CREATE INDEX api_keys_ended ON troupe.api_keys (least(revoked, expires)) WHERE least(revoked, expires) IS NOT NULL;

-- What a namespace may take up; 0 is no bound.
CREATE TABLE troupe.tenants (
    namespace   text             NOT NULL COLLATE "C" PRIMARY KEY,
    weight      double precision NOT NULL,
    queued      bigint           NOT NULL,
    running     bigint           NOT NULL,
    bytes       bigint           NOT NULL,
    connections bigint           NOT NULL,
    events      bigint           NOT NULL
);

-- What administrators did.
CREATE TABLE troupe.audits (
    id        uuid   NOT NULL PRIMARY KEY,
    at        bigint NOT NULL,
    namespace text   NOT NULL,
    actor     text   NOT NULL,
    action    text   NOT NULL,
    target    text   NOT NULL,
    detail    text   NOT NULL
);
CREATE INDEX audits_listed ON troupe.audits (namespace, id);
CREATE INDEX audits_at ON troupe.audits (at);

-- What may be used once and was, remembered for as long as it would be valid.
CREATE TABLE troupe.spent (
    id      uuid   NOT NULL PRIMARY KEY,
    expires bigint NOT NULL
);
CREATE INDEX spent_expires ON troupe.spent (expires);
