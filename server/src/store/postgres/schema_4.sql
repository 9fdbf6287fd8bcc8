-- When a job that has not ended ends by itself. Of jobs that are older than this column it is known from their next
-- change on.
ALTER TABLE jobs ADD COLUMN deadline bigint;
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE deadline IS NOT NULL;
