//! The counters of jobs, so that no command counts jobs.
//!
//! Every change of job states updates the counters in its own transaction. The callers say which jobs
//! they changed; this module never changes a job. `rebuild` counts the jobs themselves, and
//! `find_drift` compares the counters with such a count.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::job::JobState;
use crate::queue::sqlite::connection::json;
use crate::queue::{BatchId, Context as _, QueueError};

/// The jobs that a counter counts: those of one batch with one target status and one approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue) struct CounterKey {
    pub(in crate::queue) batch: BatchId,
    /// The numeric code of the service.
    pub(in crate::queue) target_status: i64,
    /// 0 for jobs without an approval.
    pub(in crate::queue) approval: i64,
}

impl CounterKey {
    /// Reads the key from the columns from `at` on: batch, target status, approval.
    pub(in crate::queue) fn read(row: &SqliteRow, at: usize) -> Result<Self, sqlx::Error> {
        Ok(Self {
            batch: row.try_get(at)?,
            target_status: row.try_get(at + 1)?,
            approval: row.try_get(at + 2)?,
        })
    }
}

/// The property that is counted: a job state, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue) enum Counter {
    State(JobState),
    /// Failed jobs whose question a later import covers.
    FailedSuperseded,
    /// Deletes in doubt that the service reported as done when they were repeated.
    SucceededOnRetry,
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::State(state) => state.name(),
            Self::FailedSuperseded => "failed_superseded",
            Self::SucceededOnRetry => "succeeded_on_retry",
        }
    }

    fn is_final(self) -> bool {
        matches!(self, Self::State(state) if !matches!(state, JobState::Pending | JobState::InFlight))
    }
}

/// Changes of counters, collected until they are written.
#[derive(Debug, Default)]
pub(in crate::queue) struct CounterDeltas(BTreeMap<(CounterKey, Counter), i64>);

impl CounterDeltas {
    pub(in crate::queue) fn add(&mut self, key: CounterKey, counter: Counter, jobs: i64) {
        *self.0.entry((key, counter)).or_default() += jobs;
    }

    /// Counts `jobs` jobs that change from one state to another.
    pub(in crate::queue) fn move_jobs(
        &mut self,
        key: CounterKey,
        from: JobState,
        to: JobState,
        jobs: i64,
    ) {
        self.add(key, Counter::State(from), -jobs);
        self.add(key, Counter::State(to), jobs);
    }

    /// Writes the changes. A batch with a job that finished gets `now_ms` as the time of its last
    /// outcome.
    pub(in crate::queue) async fn apply(
        self,
        connection: &mut SqliteConnection,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "write the job counters";
        let mut finished = BTreeSet::new();
        for ((key, counter), jobs) in self.0 {
            if jobs == 0 {
                continue;
            }
            // A counter that decreases has a row; one that increases may need a new row.
            let sql = if jobs < 0 {
                "UPDATE job_counters SET jobs = jobs + ?5
                 WHERE batch_id = ?1 AND target_status = ?2 AND approval_id = ?3 AND job_state = ?4"
            } else {
                "INSERT INTO job_counters (batch_id, target_status, approval_id, job_state, jobs)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs"
            };
            let changed = sqlx::query(sql)
                .bind(key.batch)
                .bind(key.target_status)
                .bind(key.approval)
                .bind(counter.name())
                .bind(jobs)
                .execute(&mut *connection)
                .await
                .context(CONTEXT)?;
            if changed.rows_affected() == 0 {
                return Err(no_counter(key.batch));
            }
            if jobs > 0 && counter.is_final() {
                finished.insert(key.batch);
            }
        }
        if finished.is_empty() {
            return Ok(());
        }
        let finished: Vec<BatchId> = finished.into_iter().collect();
        sqlx::query(
            "UPDATE batches SET finished_ms = max(finished_ms, ?)
             WHERE id IN (SELECT value FROM json_each(?))",
        )
        .bind(now_ms.max(0))
        .bind(json(&finished))
        .execute(connection)
        .await
        .map(drop)
        .context(CONTEXT)
    }
}

/// The counter of a batch has no row although its jobs exist.
fn no_counter(batch: BatchId) -> QueueError {
    let reason = "the jobs of this batch have no counter";
    QueueError::Impossible { table: "job_counters", row: batch, reason: reason.to_owned() }
}

/// The expected job counters, counted from the jobs.
const COUNTED: &str = "
    SELECT batch_id, target_status, coalesce(approval_id, 0) AS approval_id, state AS job_state, count(*) AS jobs
      FROM jobs GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT batch_id, target_status, coalesce(approval_id, 0), 'failed_superseded', count(*)
      FROM jobs WHERE state = 'failed' AND NOT is_latest GROUP BY 1, 2, 3
    UNION ALL
    SELECT batch_id, target_status, coalesce(approval_id, 0), 'succeeded_on_retry', count(*)
      FROM jobs WHERE state = 'succeeded' AND error_code IS NOT NULL GROUP BY 1, 2, 3";

/// The expected request counters of each run, counted from the requests.
const COUNTED_REQUESTS: &str = "
    SELECT run_id, count(*) AS sent, count(*) FILTER (WHERE verdict = 'throttled') AS throttled,
           count(*) FILTER (WHERE verdict IN ('applied', 'rejected')) AS evaluated,
           count(*) FILTER (WHERE verdict = 'orphaned') AS orphaned, sum(response_lost) AS lost
      FROM requests GROUP BY run_id";

/// The first and the last job of each batch, and the time of its last outcome.
const COUNTED_BATCHES: &str = "
    SELECT batch_id, min(id) AS first, max(id) AS last, coalesce(max(finished_ms), 0) AS finished
      FROM jobs GROUP BY batch_id";

/// The counters that differ from what they count, one per line. Reads every job and request.
pub(in crate::queue) async fn find_drift(
    connection: &mut SqliteConnection,
) -> Result<Vec<String>, sqlx::Error> {
    let differs = format!(
        "WITH counted AS MATERIALIZED ({COUNTED})
         SELECT 'counters: batch ' || batch_id || ' has wrong job counters'
           FROM counted FULL JOIN job_counters AS kept USING (batch_id, target_status, approval_id, job_state)
          WHERE coalesce(counted.jobs, 0) <> coalesce(kept.jobs, 0) GROUP BY batch_id
         UNION ALL
         SELECT 'counters: batch ' || batches.id || ' has jobs outside its range'
           FROM batches JOIN ({COUNTED_BATCHES}) ON batch_id = batches.id
          WHERE first_job IS NULL OR first < first_job OR last > last_job
         UNION ALL
         SELECT 'counters: batch ' || batches.id || ' has jobs that finished after it'
           FROM batches JOIN ({COUNTED_BATCHES}) ON batch_id = batches.id WHERE finished > finished_ms
         UNION ALL
         SELECT 'counters: run ' || runs.id || ' has wrong request counters'
           FROM runs LEFT JOIN ({COUNTED_REQUESTS}) AS counted ON run_id = runs.id
          WHERE (runs.requests, runs.throttled, runs.evaluated_requests, runs.orphaned, runs.responses_lost)
                IS NOT (coalesce(counted.sent, 0), coalesce(counted.throttled, 0), coalesce(counted.evaluated, 0),
                        coalesce(counted.orphaned, 0), coalesce(counted.lost, 0))"
    );
    sqlx::query_scalar(AssertSqlSafe(differs)).fetch_all(connection).await
}

/// Rebuilds the counters by counting everything, in the caller's transaction.
pub(in crate::queue) async fn rebuild(
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let rebuilt = format!(
        "DELETE FROM job_counters;
         INSERT INTO job_counters (batch_id, target_status, approval_id, job_state, jobs) {COUNTED};
         UPDATE batches SET (first_job, last_job) = (NULL, NULL);
         UPDATE batches SET (first_job, last_job, finished_ms) = (first, last, max(finished, finished_ms))
           FROM ({COUNTED_BATCHES}) WHERE batch_id = batches.id;
         UPDATE runs SET (requests, throttled, evaluated_requests, orphaned, responses_lost) = (0, 0, 0, 0, 0);
         UPDATE runs SET (requests, throttled, evaluated_requests, orphaned, responses_lost)
             = (counted.sent, counted.throttled, counted.evaluated, counted.orphaned, counted.lost)
           FROM ({COUNTED_REQUESTS}) AS counted WHERE run_id = runs.id;"
    );
    sqlx::raw_sql(AssertSqlSafe(rebuilt)).execute(connection).await.map(drop)
}
