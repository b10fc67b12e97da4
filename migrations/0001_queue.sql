-- The queue: what was asked for (batches, jobs), what was sent (runs, requests).
--
-- Times are integer UTC milliseconds. A row that cannot be true cannot be written:
-- every table is STRICT and the CHECKs say what goes together. Each index names the
-- query it is for; there are no others.

PRAGMA application_id = 0x6465736b; -- 'desk'

-- What the service counts calls by: one SDKAppID and one library.
CREATE TABLE apps (
    id       INTEGER PRIMARY KEY,
    sdkappid INTEGER NOT NULL CHECK (sdkappid > 0),
    library  TEXT    NOT NULL CHECK (library IN ('chitchat', 'faq')),
    UNIQUE (sdkappid, library)
) STRICT;

-- One import of a manifest.
CREATE TABLE batches (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id       INTEGER NOT NULL REFERENCES apps (id),
    name         TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    digest       TEXT    NOT NULL CHECK (length(digest) = 64),
    created_ms   INTEGER NOT NULL CHECK (created_ms >= 0),
    rows         INTEGER NOT NULL CHECK (rows >= 0),
    jobs         INTEGER NOT NULL CHECK (jobs >= 0),
    duplicates   INTEGER NOT NULL CHECK (duplicates >= 0),
    rejected     INTEGER NOT NULL CHECK (rejected >= 0),
    cancelled_ms INTEGER CHECK (cancelled_ms >= 0),
    CHECK (rows = jobs + duplicates + rejected)
) STRICT;

-- "Was this manifest imported before?"
CREATE INDEX batches_by_digest ON batches (app_id, digest);

-- One drain of the queue by one process.
CREATE TABLE runs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id      INTEGER NOT NULL REFERENCES apps (id),
    host        TEXT    NOT NULL,
    pid         INTEGER NOT NULL,
    started_ms  INTEGER NOT NULL CHECK (started_ms >= 0),
    finished_ms INTEGER CHECK (finished_ms >= 0),
    ending      TEXT CHECK (ending IN ('drained', 'signal', 'outage', 'refused', 'suspicious', 'broken', 'died')),
    CHECK ((finished_ms IS NULL) = (ending IS NULL))
) STRICT;

-- One HTTP call; the row is durable before the call leaves, its second half after the
-- answer. A row without a verdict is in flight, or was when its run died.
CREATE TABLE requests (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id      INTEGER NOT NULL REFERENCES runs (id),
    status      INTEGER NOT NULL CHECK (status IN (4, 5, 6)),
    jobs        TEXT    NOT NULL CHECK (jobs <> ''),      -- numbers, runs folded: 1-100,107
    job_count   INTEGER NOT NULL CHECK (job_count > 0),
    slot_ms     INTEGER NOT NULL CHECK (slot_ms >= 0),
    answered_ms INTEGER CHECK (answered_ms >= 0),
    latency_ms  INTEGER CHECK (latency_ms >= 0),
    http_status INTEGER,
    code        INTEGER,
    info        TEXT,
    verdict     TEXT CHECK (verdict IN ('applied', 'throttled', 'transient', 'renew', 'rejected', 'stop', 'orphaned')),
    CHECK ((answered_ms IS NULL) = (verdict IS NULL))
) STRICT;

-- Orphans of a run that died.
CREATE INDEX requests_open ON requests (id) WHERE verdict IS NULL;
-- How often the service said "too fast".
CREATE INDEX requests_throttled ON requests (id) WHERE verdict = 'throttled';

-- One question and its target status, from one batch.
CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id    INTEGER NOT NULL REFERENCES batches (id),
    app_id      INTEGER NOT NULL REFERENCES apps (id),
    line        INTEGER NOT NULL CHECK (line > 0),
    question_id TEXT    NOT NULL CHECK (length(CAST(question_id AS BLOB)) BETWEEN 1 AND 256),
    status      INTEGER NOT NULL CHECK (status IN (4, 5, 6)),
    state       TEXT    NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'in_flight', 'succeeded', 'failed', 'cancelled', 'superseded')),
    -- 1: no later import speaks for this question.
    newest      INTEGER NOT NULL DEFAULT 1 CHECK (newest IN (0, 1)),
    -- Not to be sent before.
    due_ms      INTEGER NOT NULL DEFAULT 0 CHECK (due_ms >= 0),
    -- The run that keeps this pending job for a chunk of its own making (the same chunk
    -- again, or isolation); free again when that run ends, however it ends.
    held_by     INTEGER REFERENCES runs (id),
    -- The last request that claimed it; what a late answer must still match.
    request_id  INTEGER REFERENCES requests (id),
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- 1: some request that carried it has no known answer and may have been applied.
    in_doubt    INTEGER NOT NULL DEFAULT 0 CHECK (in_doubt IN (0, 1)),
    error_code  INTEGER,
    error_info  TEXT,
    finished_ms INTEGER CHECK (finished_ms >= 0),
    CHECK ((finished_ms IS NULL) = (state IN ('pending', 'in_flight'))),
    CHECK (state <> 'in_flight' OR request_id IS NOT NULL),
    CHECK (state NOT IN ('succeeded', 'failed') OR (request_id IS NOT NULL AND attempts > 0)),
    CHECK (held_by IS NULL OR state = 'pending'),
    CHECK (error_code IS NULL OR state IN ('succeeded', 'failed'))
) STRICT;

-- The claim: the first free jobs of one app and status that are due.
CREATE INDEX jobs_claim ON jobs (app_id, status, due_ms, id) WHERE state = 'pending' AND held_by IS NULL;
-- Supersession at import, and the rule that one question has one newest intent.
CREATE UNIQUE INDEX jobs_newest ON jobs (app_id, question_id) WHERE newest = 1;
-- Settling a request, and returning orphans.
CREATE INDEX jobs_in_flight ON jobs (request_id) WHERE state = 'in_flight';
-- Keeping a question out of two requests at once: only a job that was overtaken in flight
-- can be there beside a pending one.
CREATE INDEX jobs_overtaken ON jobs (app_id, question_id) WHERE state = 'in_flight' AND newest = 0;
-- Freeing what a finished run held.
CREATE INDEX jobs_held ON jobs (held_by) WHERE held_by IS NOT NULL;
-- "Is this batch finished?", and cancelling it.
CREATE INDEX jobs_open ON jobs (batch_id) WHERE state IN ('pending', 'in_flight');
