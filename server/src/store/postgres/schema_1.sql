-- One row a job, a task, an event … as the verbs need them. Whoever changes anything of a job holds the lock
-- of its row in jobs first; rows of other jobs are never waited for while it is held.

CREATE TABLE meta (
    key text PRIMARY KEY,
    value bytea NOT NULL
);

-- What the jobs of each owner use: kept with every change, so that nobody counts all jobs.
CREATE TABLE usage (
    owner text COLLATE "C" PRIMARY KEY,
    jobs bigint NOT NULL,
    open_jobs bigint NOT NULL,
    bytes bigint NOT NULL
);

CREATE TABLE jobs (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 16),
    owner text COLLATE "C" NOT NULL,
    -- Request id of its creation.
    request text COLLATE "C",
    state smallint NOT NULL,
    -- Milliseconds since the epoch, as all times here.
    ended bigint,
    -- A task of it is queued, and it is not set aside.
    claimable boolean NOT NULL DEFAULT false,
    -- Its records cannot be read: none of its tasks is handed out.
    aside boolean NOT NULL DEFAULT false,
    -- JSON.
    header text NOT NULL,
    -- Protocol buffers, as every payload, result and event.
    spec bytea NOT NULL,
    UNIQUE (owner, request)
) WITH (fillfactor = 70);
CREATE INDEX jobs_claimable ON jobs (owner, id) WHERE claimable;
CREATE INDEX jobs_of_owner ON jobs (owner, state, id);
CREATE INDEX jobs_of_state ON jobs (state, id);
CREATE INDEX jobs_ended ON jobs (ended, id) WHERE ended IS NOT NULL;

CREATE TABLE tasks (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    stage bigint NOT NULL,
    -- Index of a map; 2^32 for the reduce, which comes after every map.
    slot bigint NOT NULL,
    -- JSON.
    record text NOT NULL,
    payload bytea NOT NULL,
    result bytea,
    PRIMARY KEY (job, stage, slot)
) WITH (fillfactor = 70);

CREATE TABLE queue (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    stage bigint NOT NULL,
    slot bigint NOT NULL,
    PRIMARY KEY (job, stage, slot)
);

-- Tasks that wait out a backoff.
CREATE TABLE waiting (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    stage bigint NOT NULL,
    slot bigint NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (job, stage, slot)
);
CREATE INDEX waiting_until ON waiting (until);

CREATE TABLE leases (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    stage bigint NOT NULL,
    slot bigint NOT NULL,
    lease bytea NOT NULL,
    attempt bigint NOT NULL,
    granted bigint NOT NULL,
    deadline bigint NOT NULL,
    PRIMARY KEY (job, stage, slot)
);
CREATE INDEX leases_deadline ON leases (deadline);

CREATE TABLE events (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    sequence bigint NOT NULL,
    event bytea NOT NULL,
    PRIMARY KEY (job, sequence)
);

-- The blobs that a job keeps.
CREATE TABLE blobs (
    job bytea NOT NULL REFERENCES jobs ON DELETE CASCADE,
    digest bytea NOT NULL,
    size bigint NOT NULL,
    PRIMARY KEY (job, digest)
);
CREATE INDEX blobs_digest ON blobs (digest);
