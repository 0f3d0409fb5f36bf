-- +goose Up

-- How many bytes are kept: of a task its payload, result, checkpoint and the data of
-- its events, and of a namespace the sum of those, over slots as counts are. Of what
-- is there already only what comes to it is counted. grew is by how much the last
-- change of a task changed its bytes.
ALTER TABLE troupe.tasks ADD COLUMN bytes bigint NOT NULL DEFAULT 0, ADD COLUMN grew bigint NOT NULL DEFAULT 0;
CREATE TABLE troupe.volumes (
    namespace text     NOT NULL,
    slot      smallint NOT NULL,
    bytes     bigint   NOT NULL,
    PRIMARY KEY (namespace, slot)
) WITH (fillfactor = 50);
