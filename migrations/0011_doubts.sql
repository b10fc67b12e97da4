-- What is not known belongs to the question, not to the job that was sent: it outlives the job's
-- cancel, a later import, a retry and a prune.

-- History of a job: a request that carried it lost its response. Whether the question is in doubt
-- now is another matter, and that is below.
ALTER TABLE jobs RENAME COLUMN in_doubt TO response_lost;

-- A target status that a question may have been given by a request that does not say so.
CREATE TABLE doubts (
    question_id TEXT    NOT NULL,
    app_id      INTEGER NOT NULL REFERENCES apps (id),
    status      INTEGER NOT NULL CHECK (status BETWEEN 4 AND 6),
    -- 1: nothing since has settled it. 0: settled, and kept until `late_ms`.
    open        INTEGER NOT NULL CHECK (open IN (0, 1)),
    -- 1: the response was lost. 0: it came and was a rejection, which may have been applied all the
    -- same: too little to take a later rejection for the proof that it was.
    lost        INTEGER NOT NULL CHECK (lost IN (0, 1)),
    -- Until then the request can still be applied: a job with another target status waits for it.
    late_ms     INTEGER NOT NULL CHECK (late_ms >= 0),
    PRIMARY KEY (question_id, app_id, status)
) STRICT, WITHOUT ROWID;

-- Jobs of earlier versions, unless the latest job of the question has succeeded.
INSERT INTO doubts (question_id, app_id, status, open, lost, late_ms)
SELECT DISTINCT job.question_id, job.app_id, job.status, 1, 1, 0 FROM jobs AS job
  LEFT JOIN jobs AS latest ON latest.question_id = job.question_id AND latest.app_id = job.app_id AND latest.newest = 1
 WHERE job.response_lost = 1 AND latest.state IS NOT NULL AND latest.state <> 'succeeded';

-- A request that may have been applied although no response says so.
ALTER TABLE requests ADD COLUMN response_lost INTEGER NOT NULL DEFAULT 0 CHECK (response_lost IN (0, 1));
UPDATE requests SET response_lost = 1
 WHERE verdict = 'orphaned' OR (verdict = 'transient' AND id IN (SELECT request_id FROM jobs WHERE response_lost = 1));

-- How many of them a run has.
ALTER TABLE runs ADD COLUMN responses_lost INTEGER NOT NULL DEFAULT 0 CHECK (responses_lost >= 0);
UPDATE runs SET responses_lost = (SELECT count(*) FROM requests WHERE run_id = runs.id AND response_lost = 1);

-- The service that the app's jobs were sent to.
ALTER TABLE apps ADD COLUMN endpoint TEXT CHECK (endpoint <> '');
