//! The part of an import that changes the queue: set by set, in its transaction.
//!
//! Questions come in no order, so the index of them is the dear part: a row that goes to a place
//! of its own costs a page of it. Where the rows are many compared with those that are there,
//! it is made anew from all of them, in one sort, and so is that of claims; and where none are
//! there, no question can be found before the next import, which makes its index. Relies on
//! `staging.rs` for the rows.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::tallies::{Change, Tally, change, make, read_tally};
use super::{ApprovalId, BatchId, Doing as _, StoreError};
use crate::job::{JobState, Status};

/// Fewer rows than this never make the index of questions anew.
const ANEW_ROWS_MIN: i64 = 20_000;

/// How many rows may be there for each that comes, for the index to be made anew: a row in an
/// index that outgrows memory costs about as much as so many in a sort.
const ANEW_TIMES: i64 = 8;

/// As the migration has it; a test compares them.
const JOBS_CLAIM: &str = "CREATE INDEX jobs_claim ON jobs (app_id, status, due_ms) WHERE state = 'pending' AND held_by IS NULL";

/// As the migration has it, too.
const JOBS_NEWEST: &str =
    "CREATE UNIQUE INDEX IF NOT EXISTS jobs_newest ON jobs (question_id, app_id) WHERE newest = 1";

/// What is done to the indexes that take every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// They take the rows one by one.
    Kept,
    /// They go, and are made anew from all rows.
    Anew,
    /// The same, but the next import makes that of questions. Only where no job is there: until
    /// then, that a manifest names each question once is what keeps the rule of one newest intent.
    Later,
}

impl Index {
    /// What costs less for so many `rows`, and whether any job is there that they could meet;
    /// if so, the index is there too when this returns.
    pub(super) async fn choose(
        connection: &mut SqliteConnection,
        rows: u64,
    ) -> Result<(Self, bool), StoreError> {
        let there: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(pending + in_flight + succeeded + failed + cancelled + superseded), 0)
             FROM tallies",
        )
        .fetch_one(&mut *connection)
        .await
        .doing("look how large the queue is")?;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        if there == 0 {
            return Ok((if rows >= ANEW_ROWS_MIN { Self::Later } else { Self::Kept }, false));
        }
        run(connection, JOBS_NEWEST).await?;
        let many = rows >= ANEW_ROWS_MIN && rows.saturating_mul(ANEW_TIMES) >= there;
        Ok((if many { Self::Anew } else { Self::Kept }, true))
    }
}

/// What speaks for the staged questions until now does so no longer: `pending → superseded`;
/// jobs in any other state keep it. One in flight is superseded if it ever comes back, a failed
/// one is not revived. Says how many were superseded. Takes the index away that goes.
pub(super) async fn step_back(
    connection: &mut SqliteConnection,
    app_id: i64,
    now_ms: i64,
    (index, jobs_are_there): (Index, bool),
) -> Result<u64, StoreError> {
    let found = if jobs_are_there { find_older(connection, app_id).await? } else { 0 };
    let shares = if found == 0 { Vec::new() } else { older_shares(connection).await? };
    if index != Index::Kept {
        run(connection, "DROP INDEX IF EXISTS jobs_newest; DROP INDEX jobs_claim").await?;
    }
    if found == 0 {
        return Ok(0);
    }
    let superseded = sqlx::query(
        "UPDATE jobs SET state = 'superseded', held_by = NULL, newest = 0, finished_ms = ?
         WHERE id IN (SELECT id FROM temp.older) AND state = 'pending'",
    )
    .bind(now_ms)
    .execute(&mut *connection)
    .await
    .doing("supersede older jobs")?;
    sqlx::query(
        "UPDATE jobs SET newest = 0 WHERE id IN (SELECT id FROM temp.older) AND newest = 1",
    )
    .execute(&mut *connection)
    .await
    .doing("step older jobs back")?;
    for (tally, pending, failed) in shares {
        let moved = Change {
            overtaken: failed,
            finished_ms: if pending > 0 { now_ms } else { 0 },
            ..Change::moved(JobState::Pending, JobState::Superseded, pending)
        };
        change(connection, tally, moved).await?;
    }
    Ok(superseded.rows_affected())
}

/// Finds the jobs that speak for the staged questions now. In the order of the questions, so
/// that the index is read once from one end to the other, and written in that of their numbers.
async fn find_older(connection: &mut SqliteConnection, app_id: i64) -> Result<u64, StoreError> {
    run(connection, "CREATE TEMP TABLE older (id INTEGER PRIMARY KEY)").await?;
    let found = sqlx::query(
        "INSERT INTO temp.older SELECT job.id
         FROM (SELECT question_id FROM temp.staged ORDER BY question_id LIMIT -1) AS staged
         CROSS JOIN jobs AS job ON job.question_id = staged.question_id AND job.app_id = ? AND job.newest = 1
         ORDER BY job.id",
    )
    .bind(app_id)
    .execute(connection)
    .await
    .doing("look for older jobs")?;
    Ok(found.rows_affected())
}

/// How many of the older jobs are pending, and how many have failed, by their tallies.
async fn older_shares(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Tally, i64, i64)>, StoreError> {
    const DOING: &str = "count older jobs";
    let rows = sqlx::query(
        "SELECT batch_id, status, coalesce(approval_id, 0), count(*) FILTER (WHERE state = 'pending'),
                count(*) FILTER (WHERE state = 'failed')
         FROM temp.older CROSS JOIN jobs ON jobs.id = older.id GROUP BY 1, 2, 3",
    )
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    rows.iter()
        .map(|row| Ok((read_tally(row, 0)?, row.try_get(3)?, row.try_get(4)?)))
        .collect::<Result<_, sqlx::Error>>()
        .doing(DOING)
}

/// Writes the staged rows as jobs of the batch, and their figures.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    app_id: i64,
    batch: BatchId,
    by_status: [u64; 3],
    index: Index,
) -> Result<(), StoreError> {
    // The types of the rows have been checked, and all else in them stands in this statement:
    // to have the engine prove it again would take longer than all the rest of it.
    run(connection, "PRAGMA ignore_check_constraints = ON").await?;
    let written = sqlx::query(
        "INSERT INTO jobs (batch_id, app_id, line, question_id, status)
         SELECT ?, ?, line, question_id, status FROM temp.staged ORDER BY rowid",
    )
    .bind(batch)
    .bind(app_id)
    .execute(&mut *connection)
    .await
    .doing("write jobs");
    run(connection, "PRAGMA ignore_check_constraints = OFF").await?;
    let written = written?;
    for (status, jobs) in Status::ALL.into_iter().zip(by_status).filter(|(_, jobs)| *jobs > 0) {
        let tally = Tally { batch, status: status.code(), approval: 0 };
        make(connection, tally).await?;
        let pending = i64::try_from(jobs).unwrap_or(i64::MAX);
        change(connection, tally, Change { pending, ..Change::default() }).await?;
    }
    if written.rows_affected() > 0 {
        // The numbers follow one another.
        let rows = i64::try_from(written.rows_affected()).unwrap_or(i64::MAX);
        sqlx::query("UPDATE batches SET first_job = ?1 - ?2 + 1, last_job = ?1 WHERE id = ?3")
            .bind(written.last_insert_rowid())
            .bind(rows)
            .bind(batch)
            .execute(&mut *connection)
            .await
            .doing("keep its figures")?;
    }
    if index != Index::Kept {
        run(connection, JOBS_CLAIM).await?;
    }
    if index == Index::Anew {
        run(connection, JOBS_NEWEST).await?;
    }
    Ok(())
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).doing("write jobs")
}

/// The open jobs of app ?1, by the three indexes that have them and few others.
const OPEN: &str = "
    SELECT id FROM jobs WHERE app_id = ?1 AND status IN (4, 5, 6) AND state = 'pending' AND held_by IS NULL
    UNION ALL SELECT id FROM jobs WHERE held_by IS NOT NULL AND state = 'pending' AND app_id = ?1
    UNION ALL SELECT id FROM jobs WHERE state = 'in_flight' AND app_id = ?1";

/// What would be sent: status, question, batch, number and whether in flight of every open job
/// of app ?1 that speaks for its question, in the order of the questions.
pub(super) fn to_be_sent() -> String {
    format!(
        "SELECT job.status, job.question_id, job.batch_id, job.id, job.state = 'in_flight'
         FROM ({OPEN}) AS open CROSS JOIN jobs AS job ON job.id = open.id
         WHERE job.newest = 1 ORDER BY job.question_id"
    )
}

/// Marks all of these as covered by an approval, in the figures too.
pub(super) async fn approve(
    connection: &mut SqliteConnection,
    app_id: i64,
    approval: ApprovalId,
) -> Result<(), StoreError> {
    const DOING: &str = "note an approval";
    let by_tally = format!(
        "SELECT job.batch_id, job.status, coalesce(job.approval_id, 0),
                count(*) FILTER (WHERE job.state = 'pending'), count(*) FILTER (WHERE job.state = 'in_flight')
         FROM ({OPEN}) AS open CROSS JOIN jobs AS job ON job.id = open.id
         WHERE job.newest = 1 GROUP BY 1, 2, 3"
    );
    let by_tally = sqlx::query(AssertSqlSafe(by_tally)).bind(app_id);
    let rows = by_tally.fetch_all(&mut *connection).await.doing(DOING)?;
    let mark = format!("UPDATE jobs SET approval_id = ?2 WHERE id IN ({OPEN}) AND newest = 1");
    let mark = sqlx::query(AssertSqlSafe(mark)).bind(app_id).bind(approval);
    mark.execute(&mut *connection).await.doing(DOING)?;
    for row in rows {
        let from = read_tally(&row, 0).doing(DOING)?;
        let (pending, in_flight): (i64, i64) =
            (row.try_get(3).doing(DOING)?, row.try_get(4).doing(DOING)?);
        let to = Tally { approval, ..from };
        make(connection, to).await?;
        change(connection, to, Change { pending, in_flight, ..Change::default() }).await?;
        let gone = Change { pending: -pending, in_flight: -in_flight, ..Change::default() };
        change(connection, from, gone).await?;
    }
    Ok(())
}
