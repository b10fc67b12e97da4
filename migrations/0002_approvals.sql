-- Runs that stop at too many failures, and runs that do what somebody has approved.

-- One more ending of a run, 'failures'. A CHECK is no part of how rows are stored, so the
-- text of the table is changed in place, as SQLite advises for constraints: to build the
-- table anew would look for every request and job of every run, since these refer to it.
-- The new columns below bring every other connection to read the schema again.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, '''broken'', ''died''', '''broken'', ''died'', ''failures''')
 WHERE type = 'table' AND name = 'runs';
PRAGMA writable_schema = RESET;

-- A plan that a person has read, and that a run was told to keep to.
CREATE TABLE approvals (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id     INTEGER NOT NULL REFERENCES apps (id),
    -- What `plan` printed and `--plan` gave back.
    digest     TEXT    NOT NULL CHECK (length(digest) = 64),
    -- What has to hold still when it is gone on with: one line each, a name and a value.
    terms      TEXT    NOT NULL CHECK (terms <> ''),
    created_ms INTEGER NOT NULL CHECK (created_ms >= 0)
) STRICT;

-- "Was this digest taken before?"
CREATE INDEX approvals_by_digest ON approvals (app_id, digest);

-- The approval that covers this job; the newest one, if several did.
ALTER TABLE jobs ADD COLUMN approval_id INTEGER REFERENCES approvals (id);
-- A run that has one sends the jobs that it covers, and no others.
ALTER TABLE runs ADD COLUMN approval_id INTEGER REFERENCES approvals (id);

-- What is left of an approval, and what failed of it.
CREATE INDEX jobs_approved ON jobs (approval_id, state) WHERE approval_id IS NOT NULL;
