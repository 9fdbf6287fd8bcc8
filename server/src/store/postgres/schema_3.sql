-- How urgent a job is: 0 low, 1 normal, 2 high.
ALTER TABLE jobs ADD COLUMN priority smallint NOT NULL DEFAULT 1;
DROP INDEX jobs_claimable;
CREATE INDEX jobs_claimable ON jobs (priority, owner, id) WHERE claimable;
