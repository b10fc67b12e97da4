//! The figures of the queue, kept by every transition of a job in its own transaction, so
//! that nobody has to count jobs.
//!
//! A tally is what a batch has of one status and one approval, by state. Relies on its callers
//! to say what they move; never changes a job. `recount` counts the jobs themselves and finds
//! where the two differ.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::carried::{Load, OfJobs};
use super::{BatchId, Doing as _, StoreError};
use crate::domain::job::JobState;

/// Whose figures: those of a batch's jobs of one status, by the approval that covers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tally {
    pub(super) batch: BatchId,
    /// The vendor's number.
    pub(super) status: i64,
    /// 0: none.
    pub(super) approval: i64,
}

/// What changes in a tally.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) pending: i64,
    pub(super) in_flight: i64,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) cancelled: i64,
    pub(super) superseded: i64,
    pub(super) overtaken: i64,
    pub(super) found_done: i64,
    /// When the jobs were finished; 0 where none was.
    pub(super) finished_ms: i64,
}

impl Change {
    /// `jobs` go from one state to another.
    pub(super) fn moved(from: JobState, to: JobState, jobs: i64) -> Self {
        let mut change = Self::default();
        *change.of(from) -= jobs;
        *change.of(to) += jobs;
        change
    }

    fn of(&mut self, state: JobState) -> &mut i64 {
        match state {
            JobState::Pending => &mut self.pending,
            JobState::InFlight => &mut self.in_flight,
            JobState::Succeeded => &mut self.succeeded,
            JobState::Failed => &mut self.failed,
            JobState::Cancelled => &mut self.cancelled,
            JobState::Superseded => &mut self.superseded,
        }
    }
}

/// The jobs of something by the tallies that they are counted in.
pub(super) type Shares = BTreeMap<Tally, i64>;

/// Changes one tally, which is there if its jobs are.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    tally: Tally,
    change: Change,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE tallies SET pending = pending + ?, in_flight = in_flight + ?, succeeded = succeeded + ?,
                failed = failed + ?, cancelled = cancelled + ?, superseded = superseded + ?,
                overtaken = overtaken + ?, found_done = found_done + ?, finished_ms = max(finished_ms, ?)
         WHERE batch_id = ? AND status = ? AND approval_id = ?",
    )
    .bind(change.pending)
    .bind(change.in_flight)
    .bind(change.succeeded)
    .bind(change.failed)
    .bind(change.cancelled)
    .bind(change.superseded)
    .bind(change.overtaken)
    .bind(change.found_done)
    .bind(change.finished_ms)
    .bind(tally.batch)
    .bind(tally.status)
    .bind(tally.approval)
    .execute(connection)
    .await
    .doing("keep its figures")?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(no_tally(tally.batch))
}

/// A batch whose jobs are counted nowhere.
fn no_tally(batch: BatchId) -> StoreError {
    let reason = "it is not there although its jobs are: deskbatch doctor says what to do";
    StoreError::Impossible { table: "tallies", row: batch, reason: reason.to_owned() }
}

/// Makes a tally that may be new.
pub(super) async fn make(
    connection: &mut SqliteConnection,
    tally: Tally,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tallies (batch_id, status, approval_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(tally.batch)
    .bind(tally.status)
    .bind(tally.approval)
    .execute(connection)
    .await
    .map(drop)
    .doing("keep its figures")
}

/// The same change for each of the shares, by as many jobs as it has.
pub(super) async fn change_all(
    connection: &mut SqliteConnection,
    shares: &Shares,
    each: impl Fn(i64) -> Change,
) -> Result<(), StoreError> {
    for (tally, jobs) in shares {
        change(connection, *tally, each(*jobs)).await?;
    }
    Ok(())
}

/// Refuses a request that has moved another number of jobs, or of tallies, than its claim has found.
pub(super) async fn check_moved(
    connection: &mut SqliteConnection,
    load: &Load,
    jobs: u64,
    tallies: u64,
) -> Result<(), StoreError> {
    static UNCOUNTED: LazyLock<OfJobs> = LazyLock::new(|| {
        OfJobs::new(|these| {
            format!(
                "SELECT min(batch_id) FROM jobs WHERE {these} AND NOT EXISTS (
                   SELECT 1 FROM tallies WHERE tallies.batch_id = jobs.batch_id AND tallies.status = jobs.status
                     AND tallies.approval_id = coalesce(jobs.approval_id, 0))"
            )
        })
    });
    if (jobs, tallies) == (load.jobs, load.tallies) {
        return Ok(());
    }
    let batch = sqlx::query(AssertSqlSafe(load.form(&UNCOUNTED).later()));
    let batch = load.bind(batch).fetch_one(connection).await.and_then(|row| row.try_get(0));
    let batch: Option<BatchId> = batch.doing("keep its figures")?;
    Err(batch.map_or_else(|| load.changed(), no_tally))
}

/// All jobs in flight, by their tallies.
pub(super) async fn all_in_flight(connection: &mut SqliteConnection) -> Result<Shares, StoreError> {
    const DOING: &str = "look at jobs in flight";
    let rows = sqlx::query(
        "SELECT batch_id, status, coalesce(approval_id, 0), count(*)
         FROM in_flight CROSS JOIN jobs ON jobs.id = in_flight.job GROUP BY 1, 2, 3",
    )
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    read_shares(&rows).doing(DOING)
}

/// Rows of batch, status, approval and number.
pub(super) fn read_shares(rows: &[SqliteRow]) -> Result<Shares, sqlx::Error> {
    rows.iter().map(|row| Ok((read_tally(row, 0)?, row.try_get(3)?))).collect()
}

/// The tally in the columns from `at` on.
pub(super) fn read_tally(row: &SqliteRow, at: usize) -> Result<Tally, sqlx::Error> {
    Ok(Tally {
        batch: row.try_get(at)?,
        status: row.try_get(at + 1)?,
        approval: row.try_get(at + 2)?,
    })
}

/// What the tallies should be, from the jobs. `finished_ms` may be later there: a job that
/// was taken back has no end any more.
const COUNTED: &str = "
    SELECT batch_id, status, coalesce(approval_id, 0) AS approval_id,
           count(*) FILTER (WHERE state = 'pending') AS pending,
           count(*) FILTER (WHERE state = 'in_flight') AS in_flight,
           count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE state = 'superseded') AS superseded,
           count(*) FILTER (WHERE state = 'failed' AND newest = 0) AS overtaken,
           count(*) FILTER (WHERE state = 'succeeded' AND error_code IS NOT NULL) AS found_done,
           coalesce(max(finished_ms), 0) AS finished_ms
    FROM jobs GROUP BY 1, 2, 3";

/// Where figures differ from what they are of, a line each. One look at all jobs and requests.
pub(super) async fn drift(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let differs = format!(
        "WITH counted AS MATERIALIZED ({COUNTED}), both AS (
           SELECT coalesce(c.batch_id, t.batch_id) AS batch_id,
                  coalesce(c.pending, 0) IS NOT coalesce(t.pending, 0)
                    OR coalesce(c.in_flight, 0) IS NOT coalesce(t.in_flight, 0)
                    OR coalesce(c.succeeded, 0) IS NOT coalesce(t.succeeded, 0)
                    OR coalesce(c.failed, 0) IS NOT coalesce(t.failed, 0)
                    OR coalesce(c.cancelled, 0) IS NOT coalesce(t.cancelled, 0)
                    OR coalesce(c.superseded, 0) IS NOT coalesce(t.superseded, 0)
                    OR coalesce(c.overtaken, 0) IS NOT coalesce(t.overtaken, 0)
                    OR coalesce(c.found_done, 0) IS NOT coalesce(t.found_done, 0)
                    OR coalesce(c.finished_ms, 0) > coalesce(t.finished_ms, 0) AS differs
           FROM counted AS c FULL JOIN tallies AS t USING (batch_id, status, approval_id))
         SELECT 'figures: batch ' || batch_id || ' has other jobs than they say' FROM both WHERE differs
         GROUP BY batch_id
         UNION ALL
         SELECT 'figures: batch ' || batches.id || ' has jobs outside its bounds' FROM batches
         JOIN (SELECT batch_id, min(id) AS first, max(id) AS last FROM jobs GROUP BY batch_id) ON batch_id = batches.id
         WHERE first_job IS NULL OR first < first_job OR last > last_job
         UNION ALL
         SELECT 'figures: run ' || runs.id || ' has other requests than they say' FROM runs
         LEFT JOIN (SELECT run_id, count(*) AS sent, count(*) FILTER (WHERE verdict = 'throttled') AS slow,
                           count(*) FILTER (WHERE verdict IN ('applied', 'rejected')) AS read,
                           count(*) FILTER (WHERE verdict = 'orphaned') AS died, sum(response_lost) AS lost
                    FROM requests GROUP BY run_id) ON run_id = runs.id
         WHERE (requests, throttled, reached, orphaned, responses_lost)
               IS NOT (coalesce(sent, 0), coalesce(slow, 0), coalesce(read, 0), coalesce(died, 0), coalesce(lost, 0))"
    );
    sqlx::query_scalar(AssertSqlSafe(differs)).fetch_all(connection).await
}

/// Puts the figures right by counting everything anew, in the caller's transaction.
pub(super) async fn recount(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let anew = format!(
        "DELETE FROM tallies;
         INSERT INTO tallies (batch_id, status, approval_id, pending, in_flight, succeeded, failed, cancelled,
                              superseded, overtaken, found_done, finished_ms) {COUNTED};
         UPDATE batches SET (first_job, last_job) = (NULL, NULL);
         UPDATE batches SET (first_job, last_job) = (first, last)
           FROM (SELECT batch_id, min(id) AS first, max(id) AS last FROM jobs GROUP BY batch_id)
           WHERE batch_id = batches.id;
         UPDATE runs SET (requests, throttled, reached, orphaned, responses_lost) = (0, 0, 0, 0, 0);
         UPDATE runs SET (requests, throttled, reached, orphaned, responses_lost) = (sent, slow, read, died, lost)
           FROM (SELECT run_id, count(*) AS sent, count(*) FILTER (WHERE verdict = 'throttled') AS slow,
                        count(*) FILTER (WHERE verdict IN ('applied', 'rejected')) AS read,
                        count(*) FILTER (WHERE verdict = 'orphaned') AS died, sum(response_lost) AS lost
                 FROM requests GROUP BY run_id) WHERE run_id = runs.id;"
    );
    sqlx::raw_sql(AssertSqlSafe(anew)).execute(connection).await.map(drop)
}
