-- Runs that stop when their time is over, and runs that others can watch.

-- One more ending of a run, 'time', in place, as 0002 did it and for its reasons. The new
-- columns below bring every other connection to read the schema again.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, '''died'', ''failures''', '''died'', ''failures'', ''time''')
 WHERE type = 'table' AND name = 'runs';
PRAGMA writable_schema = RESET;

-- What a run waits for, if it does, so that another process can say so: a service that asked
-- it to slow down, the end of an outage, or the answers to its last requests.
ALTER TABLE runs ADD COLUMN waits_for TEXT CHECK (waits_for IN ('slow_down', 'outage', 'answers'));
-- Since when, and until when at least; an outage may have begun long before the wait did.
ALTER TABLE runs ADD COLUMN waits_since_ms INTEGER CHECK (waits_since_ms >= 0);
ALTER TABLE runs ADD COLUMN waits_until_ms INTEGER CHECK (waits_until_ms >= 0);
