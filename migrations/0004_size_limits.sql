-- What runs have learned of the most questions that the service takes at once; only apps
-- whose service has refused a request for its size have a row.

CREATE TABLE size_limits (
    app_id     INTEGER PRIMARY KEY REFERENCES apps (id),
    learned_ms INTEGER NOT NULL CHECK (learned_ms >= 0),
    -- So many have passed, or are the best guess; so many were too many.
    passed     INTEGER NOT NULL CHECK (passed > 0),
    too_many   INTEGER NOT NULL CHECK (too_many > passed)
) STRICT;
