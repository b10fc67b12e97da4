-- What runs have learned of the pace that the service bears, so that the next one begins
-- with it. The service counts by app and command, and an app row is just that.

CREATE TABLE paces (
    app_id        INTEGER PRIMARY KEY REFERENCES apps (id),
    learned_ms    INTEGER NOT NULL CHECK (learned_ms >= 0),
    -- Requests a second while the gate is open, and around which calls were refused last.
    rate          REAL    NOT NULL CHECK (rate > 0),
    refused_rate  REAL    CHECK (refused_rate > 0),
    -- How unevenly calls reach the service, and how sure that is (of its logarithm).
    spread_ms     REAL    NOT NULL CHECK (spread_ms > 0),
    spread_doubt  REAL    NOT NULL CHECK (spread_doubt >= 0),
    -- The chance that the service wants distance between any two calls.
    spaced        REAL    NOT NULL CHECK (spaced BETWEEN 0 AND 1)
) STRICT;
