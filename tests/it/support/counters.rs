//! The expected counters of a queue, computed from its rows by independent SQL, so that the tests do
//! not rely on the queue's own.

/// Recomputes all counters. It duplicates the queue's own SQL on purpose, so that the tests are
/// independent.
pub const RECOUNT: &str = "
    DELETE FROM job_counters;
    INSERT INTO job_counters (batch_id, target_status, approval_id, job_state, jobs)
      SELECT batch_id, target_status, ifnull(approval_id, 0), state, count(*) FROM jobs
        GROUP BY batch_id, target_status, approval_id, state;
    INSERT INTO job_counters (batch_id, target_status, approval_id, job_state, jobs)
      SELECT batch_id, target_status, ifnull(approval_id, 0), 'failed_superseded', count(*) FROM jobs
        WHERE state = 'failed' AND is_latest = 0 GROUP BY batch_id, target_status, approval_id;
    INSERT INTO job_counters (batch_id, target_status, approval_id, job_state, jobs)
      SELECT batch_id, target_status, ifnull(approval_id, 0), 'succeeded_on_retry', count(*) FROM jobs
        WHERE state = 'succeeded' AND error_code IS NOT NULL GROUP BY batch_id, target_status, approval_id;
    UPDATE batches SET first_job = (SELECT min(id) FROM jobs WHERE batch_id = batches.id),
                       last_job = (SELECT max(id) FROM jobs WHERE batch_id = batches.id),
                       finished_ms = max(finished_ms,
                         (SELECT ifnull(max(finished_ms), 0) FROM jobs WHERE batch_id = batches.id));
    UPDATE runs SET requests = (SELECT count(*) FROM requests WHERE run_id = runs.id),
                    throttled = (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict = 'throttled'),
                    evaluated_requests = (SELECT count(*) FROM requests WHERE run_id = runs.id
                                            AND verdict IN ('applied', 'rejected')),
                    orphaned = (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict = 'orphaned');";

/// The same for lost responses.
pub const RECOUNT_LOST: &str = "UPDATE requests SET response_lost = 1 WHERE verdict = 'orphaned' AND NOT response_lost;
    UPDATE runs SET responses_lost = (SELECT count(*) FROM requests WHERE run_id = runs.id AND response_lost = 1);";

/// Each counter that differs from its jobs, missing ones included.
pub const COUNTERS: &str = "
    WITH counted AS (
      SELECT batch_id AS b, target_status AS s, ifnull(approval_id, 0) AS a, state AS j, count(*) AS n
        FROM jobs GROUP BY 1, 2, 3, 4
      UNION ALL SELECT batch_id, target_status, ifnull(approval_id, 0), 'failed_superseded', count(*)
        FROM jobs WHERE state = 'failed' AND is_latest = 0 GROUP BY 1, 2, 3
      UNION ALL SELECT batch_id, target_status, ifnull(approval_id, 0), 'succeeded_on_retry', count(*)
        FROM jobs WHERE state = 'succeeded' AND error_code IS NOT NULL GROUP BY 1, 2, 3)
    SELECT printf('counter %d %d %d %s is %d, not %d', batch_id, target_status, approval_id, job_state, jobs, ifnull(n, 0))
    FROM job_counters LEFT JOIN counted ON b = batch_id AND s = target_status AND a = approval_id AND j = job_state
    WHERE jobs <> ifnull(n, 0)
    UNION ALL
    SELECT printf('no counter %d %d %d %s', b, s, a, j) FROM counted
    WHERE NOT EXISTS (SELECT 1 FROM job_counters
      WHERE batch_id = b AND target_status = s AND approval_id = a AND job_state = j)
    UNION ALL
    SELECT printf('batch %d finished at %d', id, finished_ms) FROM batches
    WHERE finished_ms < (SELECT ifnull(max(finished_ms), 0) FROM jobs WHERE batch_id = batches.id)
    UNION ALL
    SELECT printf('batch %d from %d to %d', batches.id, first_job, last_job) FROM batches JOIN jobs ON batch_id = batches.id
    WHERE jobs.id NOT BETWEEN ifnull(first_job, 0) AND ifnull(last_job, 0)";

/// The same for runs and their requests.
pub const RUNS: &str = "
    SELECT printf('run %d is %d %d %d %d %d', id, requests, throttled, evaluated_requests, orphaned, responses_lost) FROM runs
    WHERE requests <> (SELECT count(*) FROM requests WHERE run_id = runs.id)
       OR throttled <> (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict = 'throttled')
       OR evaluated_requests <> (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict IN ('applied', 'rejected'))
       OR orphaned <> (SELECT count(*) FROM requests WHERE run_id = runs.id AND verdict = 'orphaned')
       OR responses_lost <> (SELECT count(*) FROM requests WHERE run_id = runs.id AND response_lost = 1)
       OR EXISTS (SELECT 1 FROM requests WHERE verdict = 'orphaned' AND response_lost = 0)";
