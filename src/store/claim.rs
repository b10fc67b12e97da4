//! The claim: jobs into a request, in one transaction, before it leaves.
//!
//! A claim touches as many rows as it takes, whatever the size of the queue. A question
//! that is in flight for an older job is left alone until that one is settled, so that two
//! intents for it cannot overtake each other on the way. A run that is bound to an approval
//! finds the jobs of that one alone.

use std::borrow::Cow;
use std::sync::PoisonError;

use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, Transaction};

use super::tallies::{Change, Shares, Tally, change_all};
use super::{BatchId, Doing as _, RequestId, RunId, Store, StoreError};
use crate::job::{Job, JobId, JobState, QuestionId, Status, fold_ids};

/// Jobs that are in flight now, and the durable row of the request that shall carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The request.
    pub request: RequestId,
    /// The status all of them shall have.
    pub status: Status,
    /// The jobs, at least one.
    pub jobs: Vec<Job>,
}

impl Claimed {
    /// The numbers of its jobs.
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }
}

impl Store {
    /// Claims free jobs of one status, the oldest that are due first, and as many as
    /// `jobs_max` says for that status and the first of them; a status for which it says 0
    /// is passed over. `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::TakenOver`] when the run is no longer going on; when the queue file cannot
    /// be written or holds an impossible row.
    pub async fn claim_free(
        &self,
        run: RunId,
        mut jobs_max: impl FnMut(Status, JobId) -> usize,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut tx = self.write("claim jobs").await?;
        let pool = self.pool_of(&mut tx, run).await?;
        let Some((first, status)) = next_job(&mut tx, pool, &mut jobs_max, slot_ms).await? else {
            return Ok(None);
        };
        let rows = sqlx::query_scalar(AssertSqlSafe(pool.sql(FREE)))
            .bind(pool.id())
            .bind(slot_ms)
            .bind(status.code())
            .bind(i64::try_from(jobs_max(status, first)).unwrap_or(i64::MAX))
            .fetch_one(&mut *tx)
            .await
            .doing("claim jobs")?;
        claim(tx, run, status, rows, slot_ms).await
    }

    /// Claims those of `ids` that `run` still holds: some may have been cancelled or
    /// superseded since. `None` when none is left.
    ///
    /// # Errors
    /// [`StoreError::TakenOver`] when the run is no longer going on; when the queue file cannot
    /// be written or holds an impossible row.
    pub async fn claim_held(
        &self,
        run: RunId,
        status: Status,
        ids: &[JobId],
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut tx = self.write("claim held jobs").await?;
        let rows = sqlx::query_scalar(
            "SELECT json_group_array(json_array(id, question_id, in_doubt, batch_id, approval)) FROM (
               SELECT id, question_id, in_doubt, batch_id, coalesce(approval_id, 0) AS approval FROM jobs
               WHERE id IN (SELECT value FROM json_each(?1))
                 AND state = 'pending' AND held_by = ?2 AND status = ?3 ORDER BY id LIMIT -1)",
        )
        .bind(json(ids))
        .bind(run)
        .bind(status.code())
        .fetch_one(&mut *tx)
        .await
        .doing("claim held jobs")?;
        claim(tx, run, status, rows, slot_ms).await
    }

    /// Gives those of `ids` that `run` holds back to the pool.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn free_held(&self, run: RunId, ids: &[JobId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.write("free held jobs").await?;
        free_held(&mut tx, run, ids).await?;
        tx.commit().await.doing("free held jobs")
    }

    /// Whether `run` holds any pending job.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn holds_any(&self, run: RunId) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jobs WHERE held_by = ?)")
            .bind(run)
            .fetch_one(&self.readers)
            .await
            .doing("look for held jobs")
    }

    /// When the next free job of the run's app is due, in UTC milliseconds; `None` when no
    /// free job is pending. Deletes count only `with_deletes`.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn next_due_ms(
        &self,
        run: RunId,
        with_deletes: bool,
    ) -> Result<Option<i64>, StoreError> {
        let mut reader = self.readers.acquire().await.doing("look for what is due")?;
        let pool = self.pool_of(&mut reader, run).await?;
        sqlx::query_scalar(AssertSqlSafe(pool.sql(NEXT_DUE)))
            .bind(pool.id())
            .bind(with_deletes)
            .fetch_one(&mut *reader)
            .await
            .doing("look for what is due")
    }

    /// Where `run` finds free jobs. Looked for once: it stays as it is while the run goes on.
    async fn pool_of(
        &self,
        connection: &mut SqliteConnection,
        run: RunId,
    ) -> Result<Pool, StoreError> {
        let known = *self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some((of, pool)) if of == run => Ok(pool),
            _ => {
                let pool = find_pool(connection, run).await?;
                *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Some((run, pool));
                Ok(pool)
            }
        }
    }
}

/// Where a run finds free jobs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pool {
    /// Among those of its app.
    App(i64),
    /// Among those of the approval that it is bound to.
    Approval(i64),
}

impl Pool {
    fn id(self) -> i64 {
        match self {
            Self::App(id) | Self::Approval(id) => id,
        }
    }

    /// The same statement for either kind, each by an index of its own.
    fn sql(self, of_app: &'static str) -> Cow<'static, str> {
        match self {
            Self::App(_) => of_app.into(),
            Self::Approval(_) => of_app.replace("job.app_id = ?1", "job.approval_id = ?1").into(),
        }
    }
}

/// The first free job of each status that is due, if there is one.
const FIRST: &str = "
    SELECT status, due_ms, id FROM (
      SELECT status, due_ms, id FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 4 AND state = 'pending' AND held_by IS NULL AND due_ms <= ?2
        AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
            AND other.app_id = job.app_id AND other.question_id = job.question_id)
      ORDER BY due_ms, id LIMIT 1)
    UNION ALL
    SELECT status, due_ms, id FROM (
      SELECT status, due_ms, id FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 5 AND state = 'pending' AND held_by IS NULL AND due_ms <= ?2
        AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
            AND other.app_id = job.app_id AND other.question_id = job.question_id)
      ORDER BY due_ms, id LIMIT 1)
    UNION ALL
    SELECT status, due_ms, id FROM (
      SELECT status, due_ms, id FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 6 AND state = 'pending' AND held_by IS NULL AND due_ms <= ?2
        AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
            AND other.app_id = job.app_id AND other.question_id = job.question_id)
      ORDER BY due_ms, id LIMIT 1)";

/// Free jobs of one status that are due, the oldest first, as rows of [`Found`].
const FREE: &str = "
    SELECT json_group_array(json_array(id, question_id, in_doubt, batch_id, approval)) FROM (
      SELECT id, question_id, in_doubt, batch_id, coalesce(approval_id, 0) AS approval FROM jobs AS job
      WHERE job.app_id = ?1 AND status = ?3 AND state = 'pending' AND held_by IS NULL AND due_ms <= ?2
        AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.newest = 0
            AND other.app_id = job.app_id AND other.question_id = job.question_id)
      ORDER BY due_ms, id LIMIT ?4)";

/// A job to be claimed: number, question, whether in doubt, batch and approval (0: none). All of a
/// claim come in one row, as JSON: each row of its own wakes two threads.
type Found = (JobId, String, i64, BatchId, i64);

/// When the next free job is due.
const NEXT_DUE: &str = "
    SELECT min(due) FROM (
      SELECT min(due_ms) AS due FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 4 AND state = 'pending' AND held_by IS NULL
      UNION ALL
      SELECT min(due_ms) FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 5 AND state = 'pending' AND held_by IS NULL
      UNION ALL
      SELECT min(due_ms) FROM jobs AS job
      WHERE job.app_id = ?1 AND status = 6 AND state = 'pending' AND held_by IS NULL AND ?2)";

async fn find_pool(connection: &mut SqliteConnection, run: RunId) -> Result<Pool, StoreError> {
    const DOING: &str = "look at its run";
    let row = sqlx::query("SELECT app_id, approval_id FROM runs WHERE id = ? AND ending IS NULL")
        .bind(run)
        .fetch_optional(connection)
        .await
        .doing(DOING)?;
    let row = row.ok_or(StoreError::TakenOver { run })?;
    let approval: Option<i64> = row.try_get(1).doing(DOING)?;
    Ok(match approval {
        Some(approval) => Pool::Approval(approval),
        None => Pool::App(row.try_get(0).doing(DOING)?),
    })
}

/// The free job that has been due longest.
async fn next_job(
    connection: &mut SqliteConnection,
    pool: Pool,
    mut jobs_max: impl FnMut(Status, JobId) -> usize,
    slot_ms: i64,
) -> Result<Option<(JobId, Status)>, StoreError> {
    const DOING: &str = "look for a job";
    let rows = sqlx::query(AssertSqlSafe(pool.sql(FIRST)))
        .bind(pool.id())
        .bind(slot_ms)
        .fetch_all(connection)
        .await
        .doing(DOING)?;
    let mut first: Option<(i64, JobId, Status)> = None;
    for row in rows {
        let id: JobId = row.try_get(2).doing(DOING)?;
        let status = row.try_get(0).doing(DOING)?;
        let status = Status::from_code(status).ok_or_else(|| StoreError::Impossible {
            table: "jobs",
            row: id,
            reason: format!("status {status}"),
        })?;
        let key = (row.try_get(1).doing(DOING)?, id, status);
        if jobs_max(status, id) > 0 {
            first = Some(first.map_or(key, |first| first.min(key)));
        }
    }
    Ok(first.map(|(_, id, status)| (id, status)))
}

/// Pending jobs that `run` holds are free for any claim again.
pub(super) async fn free_held(
    tx: &mut Transaction<'static, Sqlite>,
    run: RunId,
    ids: &[JobId],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET held_by = NULL, due_ms = 0
         WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND held_by = ?",
    )
    .bind(json(ids))
    .bind(run)
    .execute(&mut **tx)
    .await
    .doing("free held jobs")?;
    Ok(())
}

/// `pending → in_flight` for `rows`, a list of [`Found`], with the row of their request. A run that another one has
/// taken for dead claims nothing.
async fn claim(
    mut tx: Transaction<'static, Sqlite>,
    run: RunId,
    status: Status,
    rows: String,
    slot_ms: i64,
) -> Result<Option<Claimed>, StoreError> {
    let found: Vec<Found> = serde_json::from_str(&rows)
        .map_err(|e| sqlx::Error::Decode(e.into()))
        .doing("claim jobs")?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut shares = Shares::new();
    for (_, _, _, batch, approval) in &found {
        let tally = Tally { batch: *batch, status: status.code(), approval: *approval };
        *shares.entry(tally).or_default() += 1;
    }
    let jobs = found.into_iter().map(read_job).collect::<Result<Vec<Job>, _>>()?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    // No RETURNING on a table that others refer to: the engine would then look through
    // all of them for rows that wait for the new one.
    let noted = sqlx::query(
        "UPDATE runs SET requests = requests + 1 WHERE id = ? AND ending IS NULL;
         INSERT INTO requests (run_id, status, jobs, job_count, slot_ms) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(run)
    .bind(run)
    .bind(status.code())
    .bind(fold_ids(ids.iter().copied()))
    .bind(i64::try_from(ids.len()).unwrap_or(i64::MAX))
    .bind(slot_ms)
    .execute(&mut *tx)
    .await
    .doing("note a request")?;
    if noted.rows_affected() < 2 {
        return Err(StoreError::TakenOver { run });
    }
    let request: RequestId = noted.last_insert_rowid();
    set_in_flight(&mut tx, request, &ids).await?;
    let moved = |jobs| Change::moved(JobState::Pending, JobState::InFlight, jobs);
    change_all(&mut tx, &shares, moved).await?;
    tx.commit().await.doing("claim jobs")?;
    Ok(Some(Claimed { request, status, jobs }))
}

/// `pending → in_flight`. Mostly the numbers follow one another, which needs no list of them.
async fn set_in_flight(
    connection: &mut SqliteConnection,
    request: RequestId,
    ids: &[JobId],
) -> Result<(), StoreError> {
    let first = ids.iter().copied().min().unwrap_or_default();
    let last = ids.iter().copied().max().unwrap_or_default();
    let changed = if usize::try_from(last - first + 1) == Ok(ids.len()) {
        sqlx::query(
            "UPDATE jobs SET state = 'in_flight', request_id = ?, held_by = NULL
             WHERE id BETWEEN ? AND ? AND state = 'pending'",
        )
        .bind(request)
        .bind(first)
        .bind(last)
        .execute(connection)
        .await
    } else {
        sqlx::query(
            "UPDATE jobs SET state = 'in_flight', request_id = ?, held_by = NULL
             WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'",
        )
        .bind(request)
        .bind(json(ids))
        .execute(connection)
        .await
    };
    changed.map(drop).doing("claim jobs")
}

fn read_job((id, question_id, in_doubt, ..): Found) -> Result<Job, StoreError> {
    let question_id = QuestionId::parse(question_id.as_bytes()).map_err(|reason| {
        StoreError::Impossible { table: "jobs", row: id, reason: format!("question_id: {reason}") }
    })?;
    Ok(Job { id, question_id, in_doubt: in_doubt != 0 })
}

/// Numbers as a JSON array: one bound value however many there are.
pub(super) fn json(ids: &[i64]) -> String {
    serde_json::to_string(ids).unwrap_or_default()
}
