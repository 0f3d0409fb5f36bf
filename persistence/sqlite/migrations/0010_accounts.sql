-- +goose Up

-- The credentials we gave out. Of a key there is only a hash; scopes are names with
-- spaces between. Times are microseconds after 1970, NULL where there is none.
CREATE TABLE api_keys (
    id        BLOB    NOT NULL PRIMARY KEY,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    hint      TEXT    NOT NULL,
    hash      BLOB    NOT NULL UNIQUE,
    scopes    TEXT    NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    used      INTEGER,
    revoked   INTEGER
) WITHOUT ROWID;
CREATE INDEX api_keys_listed ON api_keys (namespace, id);
-- When each ceased to open anything.
CREATE INDEX api_keys_ended ON api_keys (coalesce(min(revoked, expires), revoked, expires))
    WHERE coalesce(min(revoked, expires), revoked, expires) IS NOT NULL;

-- What a namespace may take up; 0 is no bound.
CREATE TABLE tenants (
    namespace   TEXT    NOT NULL PRIMARY KEY,
    weight      REAL    NOT NULL,
    queued      INTEGER NOT NULL,
    running     INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    connections INTEGER NOT NULL,
    events      INTEGER NOT NULL
) WITHOUT ROWID;

-- What administrators did.
CREATE TABLE audits (
    id        BLOB    NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    namespace TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    detail    TEXT    NOT NULL
);
CREATE INDEX audits_listed ON audits (namespace, id);
CREATE INDEX audits_at ON audits (at);

-- What may be used once and was, remembered for as long as it would be valid.
CREATE TABLE spent (
    id      BLOB    NOT NULL PRIMARY KEY,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX spent_expires ON spent (expires);
