-- What a job's row must be, said so that it costs little to look: a list of more than two values
-- is looked up in a table of its own for every row, and a run changes each job twice.

-- In place, as 0002 did it and for its reasons. The index that goes below brings every other
-- connection to read the schema again.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql =
  replace(replace(replace(replace(replace(replace(replace(sql,
    'CHECK (status IN (4, 5, 6))', 'CHECK (status BETWEEN 4 AND 6)'),
    '
                CHECK (state IN (''pending'', ''in_flight'', ''succeeded'', ''failed'', ''cancelled'', ''superseded''))', ''),
    'CHECK ((finished_ms IS NULL) = (state IN (''pending'', ''in_flight'')))',
    'CHECK (CASE state
      WHEN ''succeeded''  THEN finished_ms IS NOT NULL AND held_by IS NULL AND request_id IS NOT NULL AND attempts > 0
      WHEN ''in_flight''  THEN finished_ms IS NULL     AND held_by IS NULL AND request_id IS NOT NULL AND error_code IS NULL
      WHEN ''pending''    THEN finished_ms IS NULL     AND error_code IS NULL
      WHEN ''failed''     THEN finished_ms IS NOT NULL AND held_by IS NULL AND request_id IS NOT NULL AND attempts > 0
      WHEN ''superseded'' THEN finished_ms IS NOT NULL AND held_by IS NULL AND error_code IS NULL
      WHEN ''cancelled''  THEN finished_ms IS NOT NULL AND held_by IS NULL AND error_code IS NULL
      ELSE false END)'),
    ',
    CHECK (state <> ''in_flight'' OR request_id IS NOT NULL)', ''),
    ',
    CHECK (state NOT IN (''succeeded'', ''failed'') OR (request_id IS NOT NULL AND attempts > 0))', ''),
    ',
    CHECK (held_by IS NULL OR state = ''pending'')', ''),
    ',
    CHECK (error_code IS NULL OR state IN (''succeeded'', ''failed''))', '')
 WHERE type = 'table' AND name = 'jobs';
PRAGMA writable_schema = RESET;

-- What is in flight is found by its request: the request's row has the numbers of its jobs. An
-- index of those jobs would take each of them in and out again.
DROP INDEX jobs_in_flight;
CREATE VIEW in_flight (request, job) AS
  SELECT requests.id, jobs.id
    FROM requests
    -- 1-100,107 in two rows.
    CROSS JOIN json_each('["' || replace(requests.jobs, ',', '","') || '"]') AS span
    CROSS JOIN jobs ON jobs.id BETWEEN CAST(span.value AS INTEGER)
                                   AND CAST(substr(span.value, instr(span.value, '-') + 1) AS INTEGER)
   -- The signs keep the engine from an index of all jobs that it would make for the question alone.
   WHERE requests.verdict IS NULL AND +jobs.request_id = requests.id AND +jobs.state = 'in_flight';
