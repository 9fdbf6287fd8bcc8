-- When blobs of an object store were last used, whether they are there or not. Whoever removes one holds the lock
-- of its row meanwhile, so that nobody is told of a blob that goes.
CREATE TABLE blob_uses (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    used bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX blob_uses_used ON blob_uses (used);
