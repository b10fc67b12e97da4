-- What a job's row must be, said so that it costs little to look: a list of more than two values
-- is looked up in a table of its own for every row, and a run changes each job twice.

-- In place, as 0002 did it and for its reasons. The index below brings every other connection to
-- read the schema again.
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
