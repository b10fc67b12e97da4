-- Figures for machines that watch: a look at a large queue must not cost a look at every row,
-- and what was counted once must not be taken back by a prune.

-- "How many jobs have which outcome, and with which code?", from the index alone.
CREATE INDEX jobs_outcomes ON jobs (app_id, status, state, error_code) WHERE finished_ms IS NOT NULL;
-- "How many requests had which verdict, and how long did their answers take?", likewise.
CREATE INDEX requests_figures ON requests (run_id, verdict, latency_ms, answered_ms, job_count);

-- The same of requests that a prune has dropped, summed up in the transaction that drops them.
CREATE TABLE pruned_requests (
    app_id        INTEGER NOT NULL REFERENCES apps (id),
    verdict       TEXT    NOT NULL CHECK (verdict <> ''),
    -- The upper bound of their time to the answer; 0: it is not known.
    latency_le_ms INTEGER NOT NULL CHECK (latency_le_ms >= 0),
    requests      INTEGER NOT NULL CHECK (requests > 0),
    jobs          INTEGER NOT NULL CHECK (jobs > 0),
    latency_ms    INTEGER NOT NULL CHECK (latency_ms >= 0),
    PRIMARY KEY (app_id, verdict, latency_le_ms)
) STRICT, WITHOUT ROWID;
