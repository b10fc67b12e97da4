-- An earlier version committed large imports without this index, and left it to the next one.
CREATE UNIQUE INDEX IF NOT EXISTS jobs_newest ON jobs (question_id, app_id) WHERE newest = 1;
