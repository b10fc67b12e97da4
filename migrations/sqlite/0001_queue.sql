-- The queue: what is asked for (batches, jobs), what was sent (runs, requests), what was learned.
--
-- Times are UTC milliseconds. Every table is STRICT, and a CHECK refuses each row that cannot be
-- true. Each index names the query that needs it; there are no others.

PRAGMA application_id = 0x6465736b; -- 'desk'

-- One SDKAppID and one library: what the service counts requests by.
CREATE TABLE apps (
    id       INTEGER PRIMARY KEY,
    sdkappid INTEGER NOT NULL CONSTRAINT sdkappid_is_positive CHECK (sdkappid > 0),
    library  TEXT    NOT NULL CONSTRAINT library_is_known CHECK (library IN ('chitchat', 'faq')),
    -- The service that the app's jobs were sent to; NULL before the first request.
    endpoint TEXT    CONSTRAINT endpoint_is_not_empty CHECK (endpoint <> ''),
    UNIQUE (sdkappid, library)
) STRICT;

-- One import of a manifest. A pruned batch keeps its row, so that its manifest stays known.
CREATE TABLE batches (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id       INTEGER NOT NULL REFERENCES apps (id),
    name         TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    -- SHA-256 of the manifest and of the options that change its meaning.
    digest       TEXT    NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(digest) = 64),
    created_ms   INTEGER NOT NULL CONSTRAINT created_is_a_time CHECK (created_ms >= 0),
    rows         INTEGER NOT NULL CONSTRAINT rows_is_a_count CHECK (rows >= 0),
    jobs         INTEGER NOT NULL CONSTRAINT jobs_is_a_count CHECK (jobs >= 0),
    duplicates   INTEGER NOT NULL CONSTRAINT duplicates_is_a_count CHECK (duplicates >= 0),
    rejected     INTEGER NOT NULL CONSTRAINT rejected_is_a_count CHECK (rejected >= 0),
    -- The ids of the batch's jobs are consecutive, since an import is one transaction.
    first_job    INTEGER,
    last_job     INTEGER,
    -- When the last of its jobs finished; later than that only where a job was retried since.
    finished_ms  INTEGER NOT NULL DEFAULT 0 CONSTRAINT finished_is_a_time CHECK (finished_ms >= 0),
    cancelled_ms INTEGER CONSTRAINT cancelled_is_a_time CHECK (cancelled_ms >= 0),
    pruned_ms    INTEGER CONSTRAINT pruned_is_a_time CHECK (pruned_ms >= 0),
    CONSTRAINT rows_are_jobs_duplicates_and_rejected CHECK (rows = jobs + duplicates + rejected),
    CONSTRAINT first_and_last_job_come_together CHECK ((first_job IS NULL) = (last_job IS NULL))
) STRICT;

-- Finds the batch that the same manifest made before.
CREATE INDEX batches_by_digest ON batches (app_id, digest);

-- A plan that was approved, and the jobs that a run may send for it.
CREATE TABLE approvals (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id     INTEGER NOT NULL REFERENCES apps (id),
    -- What `plan` printed and `run --plan` was given.
    digest     TEXT    NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(digest) = 64),
    -- The conditions of the plan: one a line, a name and a value.
    terms      TEXT    NOT NULL CONSTRAINT terms_are_not_empty CHECK (terms <> ''),
    created_ms INTEGER NOT NULL CONSTRAINT created_is_a_time CHECK (created_ms >= 0),
    -- 'plan': all that the run sends. 'deletes': the run's deletes; other jobs need no approval.
    covers     TEXT    NOT NULL CONSTRAINT covers_is_known CHECK (covers IN ('plan', 'deletes')),
    -- Jobs that were retried or approved again since: the approval no longer covers them.
    uncovered  INTEGER NOT NULL DEFAULT 0 CONSTRAINT uncovered_is_a_count CHECK (uncovered >= 0)
) STRICT;

-- Finds an approval by the digest of its plan.
CREATE INDEX approvals_by_digest ON approvals (app_id, digest);

-- One execution that drains the queue for one app.
CREATE TABLE runs (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id             INTEGER NOT NULL REFERENCES apps (id),
    approval_id        INTEGER REFERENCES approvals (id),
    host               TEXT    NOT NULL,
    pid                INTEGER NOT NULL,
    started_ms         INTEGER NOT NULL CONSTRAINT started_is_a_time CHECK (started_ms >= 0),
    finished_ms        INTEGER CONSTRAINT finished_is_a_time CHECK (finished_ms >= 0),
    ending             TEXT    CONSTRAINT ending_is_known CHECK (ending IN (
                           'drained', 'signal', 'time_limit', 'outage', 'rejected', 'suspicious', 'failure_limit', 'error', 'died')),
    -- Why the run sends nothing now, since when, and until when at least.
    wait_reason        TEXT    CONSTRAINT wait_reason_is_known CHECK (wait_reason IN ('throttled', 'outage', 'not_due', 'responses')),
    wait_since_ms      INTEGER CONSTRAINT wait_since_is_a_time CHECK (wait_since_ms >= 0),
    wait_until_ms      INTEGER CONSTRAINT wait_until_is_a_time CHECK (wait_until_ms >= 0),
    requests           INTEGER NOT NULL DEFAULT 0 CONSTRAINT requests_is_a_count CHECK (requests >= 0),
    throttled          INTEGER NOT NULL DEFAULT 0 CONSTRAINT throttled_is_a_count CHECK (throttled >= 0),
    -- Requests whose questions the service evaluated: applied or rejected.
    evaluated_requests INTEGER NOT NULL DEFAULT 0 CONSTRAINT evaluated_is_a_count CHECK (evaluated_requests >= 0),
    -- Requests whose run died before they were settled.
    orphaned           INTEGER NOT NULL DEFAULT 0 CONSTRAINT orphaned_is_a_count CHECK (orphaned >= 0),
    responses_lost     INTEGER NOT NULL DEFAULT 0 CONSTRAINT lost_is_a_count CHECK (responses_lost >= 0),
    -- Jobs that this run finished.
    succeeded          INTEGER NOT NULL DEFAULT 0 CONSTRAINT succeeded_is_a_count CHECK (succeeded >= 0),
    failed             INTEGER NOT NULL DEFAULT 0 CONSTRAINT failed_is_a_count CHECK (failed >= 0),
    CONSTRAINT finish_time_and_ending_come_together CHECK ((finished_ms IS NULL) = (ending IS NULL))
) STRICT;

-- One HTTP call. The row is committed before the request is sent; `verdict` is NULL until the
-- response is settled, or until the next run finds the request orphaned.
CREATE TABLE requests (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id        INTEGER NOT NULL REFERENCES runs (id),
    target_status INTEGER NOT NULL CONSTRAINT target_status_is_known CHECK (target_status BETWEEN 4 AND 6),
    -- The ids of its jobs, ranges folded: 1-100,107. A record for people; no statement reads it.
    job_ids       TEXT    NOT NULL,
    job_count     INTEGER NOT NULL CONSTRAINT job_count_is_positive CHECK (job_count > 0),
    scheduled_ms  INTEGER NOT NULL CONSTRAINT scheduled_is_a_time CHECK (scheduled_ms >= 0),
    responded_ms  INTEGER CONSTRAINT responded_is_a_time CHECK (responded_ms >= 0),
    latency_ms    INTEGER CONSTRAINT latency_is_a_duration CHECK (latency_ms >= 0),
    http_status   INTEGER,
    code          INTEGER,
    info          TEXT,
    verdict       TEXT    CONSTRAINT verdict_is_known CHECK (verdict IN (
                      'applied', 'throttled', 'transient', 'renew', 'rejected', 'stop', 'orphaned')),
    -- 1: the request may have been applied although no response says so.
    response_lost INTEGER NOT NULL DEFAULT 0 CONSTRAINT response_lost_is_a_flag CHECK (response_lost IN (0, 1)),
    CONSTRAINT response_time_and_verdict_come_together CHECK ((responded_ms IS NULL) = (verdict IS NULL))
) STRICT;

-- Finds requests in flight, and orphaned ones.
CREATE INDEX requests_in_flight ON requests (id) WHERE verdict IS NULL;
-- Counts requests and their latencies by run and verdict, from the index alone.
CREATE INDEX requests_by_run ON requests (run_id, verdict, latency_ms, responded_ms, job_count);

-- One question and its target status, from one batch.
CREATE TABLE jobs (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id           INTEGER NOT NULL REFERENCES batches (id),
    app_id             INTEGER NOT NULL REFERENCES apps (id),
    line               INTEGER NOT NULL CONSTRAINT line_is_positive CHECK (line > 0),
    question_id        TEXT    NOT NULL CONSTRAINT question_id_fits
                       CHECK (length(CAST(question_id AS BLOB)) BETWEEN 1 AND 256),
    target_status      INTEGER NOT NULL CONSTRAINT target_status_is_known CHECK (target_status BETWEEN 4 AND 6),
    state              TEXT    NOT NULL DEFAULT 'pending',
    -- 1: no later import has a job for this question.
    is_latest          INTEGER NOT NULL DEFAULT 1 CONSTRAINT is_latest_is_a_flag CHECK (is_latest IN (0, 1)),
    not_before_ms      INTEGER NOT NULL DEFAULT 0 CONSTRAINT not_before_is_a_time CHECK (not_before_ms >= 0),
    -- The run that keeps this pending job for its own next chunks; NULL again when that run ends.
    reserved_by_run_id INTEGER REFERENCES runs (id),
    -- The last request that claimed the job: a late response must still match it.
    request_id         INTEGER REFERENCES requests (id),
    -- The newest approval that covers the job.
    approval_id        INTEGER REFERENCES approvals (id),
    attempts           INTEGER NOT NULL DEFAULT 0 CONSTRAINT attempts_is_a_count CHECK (attempts >= 0),
    -- 1: a request that carried the job lost its response. History; `doubts` says what is in doubt now.
    response_lost      INTEGER NOT NULL DEFAULT 0 CONSTRAINT response_lost_is_a_flag CHECK (response_lost IN (0, 1)),
    -- 1: a chunk with the job was rejected as a whole, which may have been applied all the same.
    rejected_in_chunk  INTEGER NOT NULL DEFAULT 0 CONSTRAINT rejected_is_a_flag CHECK (rejected_in_chunk IN (0, 1)),
    -- 1: the batch was cancelled while the job was in flight: if it comes back, it is cancelled.
    cancel_requested   INTEGER NOT NULL DEFAULT 0 CONSTRAINT cancel_is_a_flag CHECK (cancel_requested IN (0, 1)),
    error_code         INTEGER,
    error_info         TEXT,
    finished_ms        INTEGER CONSTRAINT finished_is_a_time CHECK (finished_ms >= 0),
    CONSTRAINT state_and_its_columns_agree CHECK (CASE state
      WHEN 'pending'    THEN finished_ms IS NULL AND error_code IS NULL
      WHEN 'in_flight'  THEN finished_ms IS NULL AND error_code IS NULL AND reserved_by_run_id IS NULL AND request_id IS NOT NULL
      WHEN 'succeeded'  THEN finished_ms IS NOT NULL AND reserved_by_run_id IS NULL AND request_id IS NOT NULL AND attempts > 0
      WHEN 'failed'     THEN finished_ms IS NOT NULL AND reserved_by_run_id IS NULL AND request_id IS NOT NULL AND attempts > 0
      WHEN 'cancelled'  THEN finished_ms IS NOT NULL AND error_code IS NULL AND reserved_by_run_id IS NULL
      WHEN 'superseded' THEN finished_ms IS NOT NULL AND error_code IS NULL AND reserved_by_run_id IS NULL
      ELSE false END)
) STRICT;

-- Holds the rule "one latest job for a question and app", and finds the job that an import supersedes.
CREATE UNIQUE INDEX jobs_latest ON jobs (question_id, app_id) WHERE is_latest;
-- The claim: the first free jobs of one app and target status whose time has come.
CREATE INDEX jobs_claim ON jobs (app_id, target_status, not_before_ms)
  WHERE state = 'pending' AND reserved_by_run_id IS NULL;
-- The same for a run that sends what an approval covers, however many other jobs wait.
CREATE INDEX jobs_claim_approved ON jobs (approval_id, target_status, not_before_ms)
  WHERE state = 'pending' AND reserved_by_run_id IS NULL AND approval_id IS NOT NULL;
-- Settles a request, and returns orphans.
CREATE INDEX jobs_in_flight ON jobs (request_id) WHERE state = 'in_flight';
-- Keeps a question out of two requests at once: only a job that was superseded in flight can be
-- in flight beside a pending job for the same question. An equality, not NOT is_latest: only so does
-- the claim read nothing but the index.
CREATE INDEX jobs_superseded_in_flight ON jobs (app_id, question_id) WHERE state = 'in_flight' AND is_latest = 0;
-- Releases what a run reserved.
CREATE INDEX jobs_reserved ON jobs (reserved_by_run_id) WHERE reserved_by_run_id IS NOT NULL;
-- Retries, lists and counts what failed, or succeeded with a code. Few rows.
CREATE INDEX jobs_with_error ON jobs (id, app_id, target_status, state, error_code)
  WHERE state = 'failed' OR error_code IS NOT NULL;

-- A target status that a question may have been given by a request that does not say so.
CREATE TABLE doubts (
    question_id   TEXT    NOT NULL,
    app_id        INTEGER NOT NULL REFERENCES apps (id),
    target_status INTEGER NOT NULL CONSTRAINT target_status_is_known CHECK (target_status BETWEEN 4 AND 6),
    -- 1: nothing since has settled it. 0: settled, and kept until `late_ms`.
    open          INTEGER NOT NULL CONSTRAINT open_is_a_flag CHECK (open IN (0, 1)),
    -- 1: the response was lost. 0: the response was a rejection, which may have been applied all the
    -- same; that is too little to take a later rejection for the proof that it was.
    lost          INTEGER NOT NULL CONSTRAINT lost_is_a_flag CHECK (lost IN (0, 1)),
    -- Until then the request can still be applied: a job with another target status waits for it.
    late_ms       INTEGER NOT NULL CONSTRAINT late_is_a_time CHECK (late_ms >= 0),
    PRIMARY KEY (question_id, app_id, target_status)
) STRICT, WITHOUT ROWID;

-- How many jobs a batch has, by target status, approval (0: none) and state. Every transition changes
-- it in its own transaction, so that no command counts jobs; `deskbatch doctor` recounts and compares.
-- Two states are counted apart beside their whole: 'failed_superseded' are failed jobs that a later
-- import covers, 'succeeded_on_retry' deletes that were found done when they were repeated.
CREATE TABLE job_counters (
    batch_id      INTEGER NOT NULL REFERENCES batches (id),
    target_status INTEGER NOT NULL CONSTRAINT target_status_is_known CHECK (target_status BETWEEN 4 AND 6),
    approval_id   INTEGER NOT NULL CONSTRAINT approval_is_zero_or_an_id CHECK (approval_id >= 0),
    job_state     TEXT    NOT NULL CONSTRAINT job_state_is_known CHECK (job_state IN (
                      'pending', 'in_flight', 'succeeded', 'failed', 'cancelled', 'superseded',
                      'failed_superseded', 'succeeded_on_retry')),
    jobs          INTEGER NOT NULL CONSTRAINT jobs_is_a_count CHECK (jobs >= 0),
    PRIMARY KEY (batch_id, target_status, approval_id, job_state)
) STRICT, WITHOUT ROWID;

-- The same, one row for each batch, target status and approval.
CREATE VIEW job_counts AS
  SELECT batch_id, target_status, approval_id,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'pending'), 0) AS pending,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'in_flight'), 0) AS in_flight,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'succeeded'), 0) AS succeeded,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'failed'), 0) AS failed,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'cancelled'), 0) AS cancelled,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'superseded'), 0) AS superseded,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'failed_superseded'), 0) AS failed_superseded,
         coalesce(sum(jobs) FILTER (WHERE job_state = 'succeeded_on_retry'), 0) AS succeeded_on_retry
    FROM job_counters GROUP BY batch_id, target_status, approval_id;

-- The request rate that earlier runs measured; the next run starts with it.
CREATE TABLE learned_rates (
    app_id                  INTEGER PRIMARY KEY REFERENCES apps (id),
    learned_ms              INTEGER NOT NULL CONSTRAINT learned_is_a_time CHECK (learned_ms >= 0),
    -- Requests a second while no breaker is open, and the rate at which the service last pushed back.
    rate                    REAL    NOT NULL CONSTRAINT rate_is_positive CHECK (rate > 0),
    throttled_rate            REAL    CONSTRAINT throttled_rate_is_positive CHECK (throttled_rate > 0),
    -- Standard deviation of the time from sending to being counted, and that of its logarithm.
    arrival_jitter_ms       REAL    NOT NULL CONSTRAINT jitter_is_positive CHECK (arrival_jitter_ms > 0),
    arrival_jitter_log_sd   REAL    NOT NULL CONSTRAINT log_sd_is_not_negative CHECK (arrival_jitter_log_sd >= 0),
    -- The probability that the service wants a minimum spacing between any two requests.
    min_spacing_probability REAL    NOT NULL CONSTRAINT probability_is_in_range
                            CHECK (min_spacing_probability BETWEEN 0 AND 1)
) STRICT;

-- The largest chunk that the service is known to take, for an app whose service rejected a chunk
-- for its size.
CREATE TABLE learned_chunk_sizes (
    app_id     INTEGER PRIMARY KEY REFERENCES apps (id),
    learned_ms INTEGER NOT NULL CONSTRAINT learned_is_a_time CHECK (learned_ms >= 0),
    accepted   INTEGER NOT NULL CONSTRAINT accepted_is_positive CHECK (accepted > 0),
    rejected   INTEGER NOT NULL CONSTRAINT rejected_is_larger CHECK (rejected > accepted)
) STRICT;

-- What pruned requests add to the counters of metrics, so that those never go down.
CREATE TABLE pruned_requests (
    app_id        INTEGER NOT NULL REFERENCES apps (id),
    verdict       TEXT    NOT NULL CONSTRAINT verdict_is_not_empty CHECK (verdict <> ''),
    -- The upper bound of the latency's bucket; 0: the latency is not known.
    latency_le_ms INTEGER NOT NULL CONSTRAINT latency_bound_is_a_duration CHECK (latency_le_ms >= 0),
    requests      INTEGER NOT NULL CONSTRAINT requests_is_positive CHECK (requests > 0),
    jobs          INTEGER NOT NULL CONSTRAINT jobs_is_positive CHECK (jobs > 0),
    latency_ms    INTEGER NOT NULL CONSTRAINT latency_is_a_duration CHECK (latency_ms >= 0),
    PRIMARY KEY (app_id, verdict, latency_le_ms)
) STRICT, WITHOUT ROWID;

-- When the queue was last pruned. At most one row.
CREATE TABLE maintenance (
    id        INTEGER PRIMARY KEY CONSTRAINT maintenance_is_one_row CHECK (id = 1),
    pruned_ms INTEGER NOT NULL CONSTRAINT pruned_is_a_time CHECK (pruned_ms >= 0)
) STRICT;
