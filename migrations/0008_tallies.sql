-- Figures that are kept by what changes them, so that nobody counts jobs; and the indexes
-- that queries of ours need, no more.

-- Jobs by batch, status and approval in each of their states. Every transition of a job
-- moves it here too, in its own transaction. `deskbatch doctor` counts anew and compares.
CREATE TABLE tallies (
    batch_id    INTEGER NOT NULL REFERENCES batches (id),
    status      INTEGER NOT NULL CHECK (status IN (4, 5, 6)),
    -- The approval that covers these jobs; 0: none does.
    approval_id INTEGER NOT NULL CHECK (approval_id >= 0),
    pending     INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    in_flight   INTEGER NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    succeeded   INTEGER NOT NULL DEFAULT 0 CHECK (succeeded >= 0),
    failed      INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    cancelled   INTEGER NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    superseded  INTEGER NOT NULL DEFAULT 0 CHECK (superseded >= 0),
    -- Of the failed, those that a newer import speaks for.
    overtaken   INTEGER NOT NULL DEFAULT 0 CHECK (overtaken BETWEEN 0 AND failed),
    -- Of the succeeded, those that keep a code: deletes found done when they were repeated.
    found_done  INTEGER NOT NULL DEFAULT 0 CHECK (found_done BETWEEN 0 AND succeeded),
    -- When one of them was finished last; never earlier than the latest of those that still are.
    finished_ms INTEGER NOT NULL DEFAULT 0 CHECK (finished_ms >= 0),
    PRIMARY KEY (batch_id, status, approval_id)
) STRICT, WITHOUT ROWID;

INSERT INTO tallies (batch_id, status, approval_id, pending, in_flight, succeeded, failed, cancelled, superseded,
                     overtaken, found_done, finished_ms)
SELECT batch_id, status, coalesce(approval_id, 0),
       count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'in_flight'),
       count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'superseded'),
       count(*) FILTER (WHERE state = 'failed' AND newest = 0),
       count(*) FILTER (WHERE state = 'succeeded' AND error_code IS NOT NULL),
       coalesce(max(finished_ms), 0)
FROM jobs GROUP BY 1, 2, 3;

-- The jobs of a batch have numbers that follow one another: an import is one transaction.
ALTER TABLE batches ADD COLUMN first_job INTEGER;
ALTER TABLE batches ADD COLUMN last_job INTEGER CHECK ((first_job IS NULL) = (last_job IS NULL));
UPDATE batches SET (first_job, last_job) = (first, last)
  FROM (SELECT batch_id, min(id) AS first, max(id) AS last FROM jobs GROUP BY batch_id) WHERE batch_id = batches.id;

-- What a run has come to: its requests, those of them refused as too fast, whose questions
-- the service looked at, whose answers were lost; and jobs that it brought to an end.
ALTER TABLE runs ADD COLUMN requests INTEGER NOT NULL DEFAULT 0 CHECK (requests >= 0);
ALTER TABLE runs ADD COLUMN throttled INTEGER NOT NULL DEFAULT 0 CHECK (throttled >= 0);
ALTER TABLE runs ADD COLUMN reached INTEGER NOT NULL DEFAULT 0 CHECK (reached >= 0);
ALTER TABLE runs ADD COLUMN orphaned INTEGER NOT NULL DEFAULT 0 CHECK (orphaned >= 0);
ALTER TABLE runs ADD COLUMN succeeded INTEGER NOT NULL DEFAULT 0 CHECK (succeeded >= 0);
ALTER TABLE runs ADD COLUMN failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0);
UPDATE runs SET (requests, throttled, reached, orphaned) = (sent, slow, read, lost)
  FROM (SELECT run_id, count(*) AS sent, count(*) FILTER (WHERE verdict = 'throttled') AS slow,
               count(*) FILTER (WHERE verdict IN ('applied', 'rejected')) AS read,
               count(*) FILTER (WHERE verdict = 'orphaned') AS lost
        FROM requests GROUP BY run_id) WHERE run_id = runs.id;
UPDATE runs SET (succeeded, failed) = (done, refused)
  FROM (SELECT run_id, count(*) FILTER (WHERE state = 'succeeded') AS done,
               count(*) FILTER (WHERE state = 'failed') AS refused
        FROM jobs JOIN requests ON requests.id = request_id GROUP BY run_id) WHERE run_id = runs.id;

-- When the queue was pruned last, whether or not anything was old enough.
CREATE TABLE upkeep (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    pruned_ms INTEGER NOT NULL CHECK (pruned_ms >= 0)
) STRICT;
INSERT INTO upkeep SELECT 1, max(pruned_ms) FROM batches HAVING max(pruned_ms) IS NOT NULL;

-- The figures above have taken their place.
DROP INDEX requests_throttled;
DROP INDEX jobs_open;
DROP INDEX jobs_approved;

-- As before without the number of the job, which every index ends with.
DROP INDEX jobs_claim;
-- The claim: the first free jobs of one app and status that are due.
CREATE INDEX jobs_claim ON jobs (app_id, status, due_ms) WHERE state = 'pending' AND held_by IS NULL;
-- The same for a run that is bound to an approval, however many others wait before them.
CREATE INDEX jobs_claim_approved ON jobs (approval_id, status, due_ms)
  WHERE state = 'pending' AND held_by IS NULL AND approval_id IS NOT NULL;

-- As before with the question first: the engine sorts by text faster than by a number that
-- is the same everywhere and text.
DROP INDEX jobs_newest;
-- Supersession at import, and the rule that one question has one newest intent.
CREATE UNIQUE INDEX jobs_newest ON jobs (question_id, app_id) WHERE newest = 1;

-- What failed, or succeeded with a code: to retry it, to name it after a run, to report it, and
-- to count it by code from the index alone. Few, so that others do not pay for it.
DROP INDEX jobs_outcomes;
CREATE INDEX jobs_told ON jobs (id, app_id, status, state, error_code)
  WHERE state = 'failed' OR error_code IS NOT NULL;
