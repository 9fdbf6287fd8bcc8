//! Every statement, in one place: `tests` has the database prepare each.

/// Declares statements, and the list of all of them.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:literal;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)+

        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

statements! {
    // Jobs.
    JOB = "SELECT header FROM jobs WHERE id = $1";
    JOB_AND_SPEC = "SELECT header, spec FROM jobs WHERE id = $1";
    LOCK_JOB = "SELECT header FROM jobs WHERE id = $1 FOR NO KEY UPDATE";
    OWNER = "SELECT owner FROM jobs WHERE id = $1";
    SPEC = "SELECT spec FROM jobs WHERE id = $1";
    REQUESTED = "SELECT header, spec FROM jobs WHERE owner = $1 AND request = $2";
    INSERT_JOB = "INSERT INTO jobs (id, owner, request, state, header, spec, priority)
        VALUES ($1, $2, $3, 0, '', $4, $5)";
    /// Whether a task is queued is looked up: only the last statement of a step knows.
    UPDATE_JOB = "UPDATE jobs SET header = $2, state = $3, ended = $4, aside = aside AND NOT $5, deadline = $6,
        claimable = (NOT aside OR $5) AND EXISTS (SELECT FROM queue WHERE job = $1) WHERE id = $1";
    SET_ASIDE = "UPDATE jobs SET aside = true, claimable = false WHERE id = $1";
    /// A job with a running task is left to its worker for a while.
    OVERDUE = "SELECT id FROM jobs WHERE deadline <= $1
        AND (deadline <= $1 - $2 OR NOT EXISTS (SELECT FROM leases WHERE job = id)) ORDER BY deadline LIMIT $3";
    FORGET_DEADLINE = "UPDATE jobs SET deadline = NULL WHERE id = $1";
    DELETE_JOB = "DELETE FROM jobs WHERE id = $1";
    LIST = "SELECT id, octet_length(spec) FROM jobs
        WHERE ($1::bytea IS NULL OR id < $1) AND ($2::text IS NULL OR owner = $2)
        AND (cardinality($3::smallint[]) = 0 OR state = ANY($3)) ORDER BY id DESC LIMIT $4";
    SELECT_JOBS = "SELECT header, spec FROM jobs WHERE id = ANY($1) ORDER BY id DESC";
    OLDEST_END = "SELECT min(ended) FROM jobs";
    SURPLUS = "SELECT greatest(coalesce(sum(jobs), 0)::bigint - $1, 0) FROM usage";
    ENDED_FIRST = "SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended, id LIMIT $1";
    ENDED_BEFORE = "SELECT id FROM jobs WHERE ended <= $1 ORDER BY ended, id LIMIT $2";

    // What they use.
    /// One creation at a time, so that no limit is passed by two at once.
    LOCK_ADMISSION = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' dual16 admission', 0))";
    USAGE = "SELECT coalesce(sum(open_jobs), 0)::bigint,
        coalesce(sum(open_jobs) FILTER (WHERE owner = $1), 0)::bigint,
        coalesce(sum(bytes) FILTER (WHERE owner = $1), 0)::bigint FROM usage";
    ADD_USAGE = "INSERT INTO usage (owner, jobs, open_jobs, bytes) VALUES ($1, $2, $3, $4)
        ON CONFLICT (owner) DO UPDATE SET jobs = usage.jobs + excluded.jobs,
        open_jobs = usage.open_jobs + excluded.open_jobs, bytes = usage.bytes + excluded.bytes";
    COUNTS = "SELECT (SELECT coalesce(sum(open_jobs), 0)::bigint FROM usage),
        (SELECT count(*) FROM queue JOIN jobs ON id = job WHERE claimable),
        (SELECT count(*) FROM waiting), (SELECT count(*) FROM leases),
        (SELECT min(granted) FROM leases)";

    // Tasks.
    TASK = "SELECT record FROM tasks WHERE job = $1 AND stage = $2 AND slot = $3";
    STAGE_TASKS = "SELECT record FROM tasks WHERE job = $1 AND stage = $2 ORDER BY slot";
    PAYLOAD = "SELECT payload FROM tasks WHERE job = $1 AND stage = $2 AND slot = $3";
    MAP_RESULTS = "SELECT slot, result FROM tasks
        WHERE job = $1 AND stage = $2 AND slot < $3 ORDER BY slot";
    INSERT_TASKS = "INSERT INTO tasks (job, stage, slot, record, payload)
        SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[])";
    UPDATE_TASKS = "UPDATE tasks SET record = changed.record, result = coalesce(changed.result, tasks.result)
        FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) AS changed (stage, slot, record, result)
        WHERE job = $1 AND tasks.stage = changed.stage AND tasks.slot = changed.slot";

    // The queue.
    QUEUED_PRIORITIES = "SELECT asked.priority FROM unnest($1::smallint[]) AS asked (priority)
        WHERE EXISTS (SELECT FROM jobs WHERE claimable AND jobs.priority = asked.priority)";
    /// A job whose lock another has is passed over.
    NEXT_JOB = "SELECT id, owner FROM jobs WHERE claimable AND priority = $1 AND owner > $2
        ORDER BY owner, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED";
    FIRST_JOB = "SELECT id, owner FROM jobs WHERE claimable AND priority = $1 ORDER BY owner, id LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED";
    HELD_JOB = "SELECT id FROM jobs WHERE claimable AND priority = $1 AND owner = $2 AND id = ANY($3)
        ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED";
    WAIT_FOR_JOB = "SELECT id, owner FROM jobs WHERE claimable AND priority = $1 ORDER BY owner, id LIMIT 1
        FOR NO KEY UPDATE";
    ANY_CLAIMABLE = "SELECT EXISTS (SELECT FROM jobs WHERE claimable)";
    QUEUE_HEAD = "SELECT stage, slot FROM queue WHERE job = $1 ORDER BY stage, slot LIMIT 1";
    ENQUEUE = "INSERT INTO queue (job, stage, slot)
        SELECT $1, * FROM unnest($2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING";
    DEQUEUE = "DELETE FROM queue WHERE job = $1 AND stage = $2 AND slot = $3";
    CLEAR_QUEUE = "DELETE FROM queue WHERE job = $1";

    // Backoffs.
    PUT_OFF = "INSERT INTO waiting (job, stage, slot, until) VALUES ($1, $2, $3, $4)
        ON CONFLICT (job, stage, slot) DO UPDATE SET until = excluded.until";
    JOBS_DUE = "SELECT DISTINCT job FROM waiting WHERE until <= $1 LIMIT $2";
    TAKE_DUE = "WITH due AS (DELETE FROM waiting WHERE job = $1 AND until <= $2 RETURNING job, stage, slot)
        INSERT INTO queue (job, stage, slot) SELECT job, stage, slot FROM due ON CONFLICT DO NOTHING";
    BECOME_CLAIMABLE = "UPDATE jobs SET claimable = NOT aside AND EXISTS (SELECT FROM queue WHERE job = $1)
        WHERE id = $1";
    SHORTEN_WAITS = "UPDATE waiting SET until = $1 WHERE until > $1";
    CLEAR_WAITING = "DELETE FROM waiting WHERE job = $1";

    // Leases.
    LEASE = "INSERT INTO leases (job, stage, slot, lease, attempt, granted, deadline)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    UNLEASE = "DELETE FROM leases WHERE job = $1 AND stage = $2 AND slot = $3 RETURNING granted";
    CLEAR_LEASES = "DELETE FROM leases WHERE job = $1";
    /// Locked in one order, whoever else renews or clears.
    RENEW = "WITH held AS (
            SELECT leases.* FROM leases
            JOIN unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[])
                AS asked (job, stage, slot, lease, attempt) USING (job, stage, slot, lease, attempt)
            ORDER BY job, stage, slot FOR UPDATE OF leases)
        UPDATE leases SET deadline = greatest(leases.deadline, $6) FROM held
        WHERE leases.job = held.job AND leases.stage = held.stage AND leases.slot = held.slot
        RETURNING leases.lease";
    EXTEND_LEASES = "UPDATE leases SET deadline = $1 WHERE deadline < $1";
    /// How old they are is known from then on only.
    ADOPT_LEASES = "UPDATE leases SET deadline = greatest(deadline, $1), granted = $2";
    EXPIRED = "SELECT job, stage, slot, lease, attempt FROM leases WHERE deadline <= $1
        ORDER BY deadline LIMIT $2";
    LOCK_EXPIRED = "SELECT true FROM leases WHERE job = $1 AND stage = $2 AND slot = $3 AND lease = $4
        AND deadline <= $5 FOR UPDATE";
    PUT_LEASE_OFF = "UPDATE leases SET deadline = greatest(deadline, $4)
        WHERE job = $1 AND stage = $2 AND slot = $3";

    // Events.
    INSERT_EVENTS = "INSERT INTO events (job, sequence, event)
        SELECT $1, * FROM unnest($2::bigint[], $3::bytea[])";
    EVENTS = "SELECT sequence, event FROM events WHERE job = $1 AND sequence > $2 AND sequence <= $3
        ORDER BY sequence LIMIT $4";

    // Blobs.
    KEEP_BLOBS = "INSERT INTO blobs (job, digest, size) SELECT $1, * FROM unnest($2::bytea[], $3::bigint[])
        ON CONFLICT DO NOTHING RETURNING size";
    UNREFERENCED = "SELECT digest FROM unnest($1::bytea[]) AS asked (digest)
        WHERE NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = asked.digest)";

    // Moving.
    ALL_JOBS = "SELECT id FROM jobs ORDER BY id";
    ALL_TASKS = "SELECT stage, slot, record, payload, result FROM tasks WHERE job = $1";
    ALL_QUEUED = "SELECT stage, slot FROM queue WHERE job = $1";
    ALL_LEASED = "SELECT stage, slot FROM leases WHERE job = $1";
    ALL_WAITING = "SELECT stage, slot, until FROM waiting WHERE job = $1";
    ALL_EVENTS = "SELECT sequence, event FROM events WHERE job = $1";
    ALL_BLOBS = "SELECT digest, size FROM blobs WHERE job = $1";
    FILL_TASK = "INSERT INTO tasks (job, stage, slot, record, payload, result)
        VALUES ($1, $2, $3, $4, $5, $6)";

    // Uses of blobs.
    /// Locked in one order; waits for a removal even where the time is fresh and stays.
    NOTE_USE = "INSERT INTO blob_uses (digest, used)
        SELECT DISTINCT digest, $2::bigint FROM unnest($1::bytea[]) AS asked (digest) ORDER BY digest
        ON CONFLICT (digest) DO UPDATE SET used = excluded.used WHERE blob_uses.used < excluded.used - $3";
    BEGIN_USE = "INSERT INTO blob_uses (digest, used)
        SELECT DISTINCT digest, $2::bigint FROM unnest($1::bytea[]) AS asked (digest) ORDER BY digest
        ON CONFLICT DO NOTHING";
    UNUSED = "SELECT digest FROM blob_uses WHERE digest = ANY($1) AND used < $2
        AND NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = blob_uses.digest)";
    LOCK_UNUSED = "SELECT true FROM blob_uses WHERE digest = $1 AND used < $2
        AND NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = blob_uses.digest) FOR UPDATE OF blob_uses";
    LOCK_USE = "SELECT true FROM blob_uses WHERE digest = $1 FOR UPDATE";
    FORGET_USE = "DELETE FROM blob_uses WHERE digest = $1";
    FORGET_USES = "DELETE FROM blob_uses WHERE used < $1
        AND NOT EXISTS (SELECT FROM blobs WHERE blobs.digest = blob_uses.digest)";

    // Servers of one database.
    SCHEMA = "SELECT current_schema()";
    NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    META = "SELECT value FROM meta WHERE key = $1 FOR UPDATE";
    SET_META = "INSERT INTO meta (key, value) VALUES ($1, $2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    /// Whether no other server of this database is there: each holds this lock, shared, as long as it is.
    TRY_ALONE = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' dual16 servers', 0))";
    END_ALONE = "SELECT pg_advisory_unlock(hashtextextended(current_schema() || ' dual16 servers', 0))";
    PRESENT = "SELECT pg_advisory_lock_shared(hashtextextended(current_schema() || ' dual16 servers', 0))";
    TRY_LEAD = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' dual16 leader', 0))";
    STILL_THERE = "SELECT true";
    NOTIFY = "SELECT pg_notify($1, $2)";
}
