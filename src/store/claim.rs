//! The claim: jobs into a request, in one transaction, before it leaves.
//!
//! A claim touches as many rows as it takes, whatever the size of the queue. A question
//! that is in flight for an older job is left alone until that one is settled, so that two
//! intents for it cannot overtake each other on the way. A run that is bound to an approval
//! finds the jobs of that one alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::pool::find_pool;
use super::tallies::no_tally;
use super::write::Write;
use super::{BatchId, Doing as _, RequestId, RunId, Store, StoreError};
use crate::job::{Job, JobId, QuestionId, Status, fold_ids};

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
    /// `jobs_max` says for that status and the first of them; asked for job 0, which there is
    /// not, it says the most for any. A status for which that is 0 is passed over. `None` when
    /// there is none.
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
        const DOING: &str = "look for a job";
        let mut tx = self.writer.take(DOING).await?;
        let pool = self.pool_of(&mut tx, run).await?;
        let most = Status::ALL.map(|status| jobs_max(status, 0));
        let free = || {
            let free =
                sqlx::query(AssertSqlSafe(Arc::clone(&pool.free))).bind(pool.id).bind(slot_ms);
            most.iter().fold(free, |free, most| free.bind(i64::try_from(*most).unwrap_or(i64::MAX)))
        };
        let told = tx.begin_with(DOING, free).await?;
        let row = told.rows.first().ok_or(sqlx::Error::RowNotFound).doing(DOING)?;
        let mut found = read_found(row.try_get(1).doing(DOING)?)?;
        let Some(Found(first, ..)) = found.first() else {
            tx.rollback().await.doing(DOING)?;
            return Ok(None);
        };
        let status = row.try_get(0).doing(DOING)?;
        let status = Status::from_code(status).ok_or_else(|| StoreError::Impossible {
            table: "jobs",
            row: *first,
            reason: format!("status {status}"),
        })?;
        found.truncate(jobs_max(status, *first));
        claim(tx, run, status, found, slot_ms).await.map(Some)
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
        let rows: String = sqlx::query_scalar(
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
        let found = read_found(&rows)?;
        if found.is_empty() {
            tx.rollback().await.doing("claim held jobs")?;
            return Ok(None);
        }
        claim(tx, run, status, found, slot_ms).await.map(Some)
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
        sqlx::query_scalar(AssertSqlSafe(pool.next_due))
            .bind(pool.id)
            .bind(with_deletes)
            .fetch_one(&mut *reader)
            .await
            .doing("look for what is due")
    }
}

/// A job to be claimed: number, question, whether in doubt, batch and approval (0: none). All of a
/// claim come in one row, as JSON: each row of its own wakes two threads.
#[derive(Debug, Deserialize)]
struct Found(JobId, String, i64, BatchId, i64);

fn read_found(rows: &str) -> Result<Vec<Found>, StoreError> {
    serde_json::from_str(rows).map_err(|e| sqlx::Error::Decode(e.into())).doing("claim jobs")
}

/// Pending jobs that `run` holds are free for any claim again.
pub(super) async fn free_held(
    tx: &mut SqliteConnection,
    run: RunId,
    ids: &[JobId],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET held_by = NULL, due_ms = 0
         WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND held_by = ?",
    )
    .bind(json(ids))
    .bind(run)
    .execute(&mut *tx)
    .await
    .doing("free held jobs")?;
    Ok(())
}

/// What a claim writes, in one go, before and after the jobs are named.
pub(super) const CLAIM: [&str; 2] = [
    // No RETURNING on a table that others refer to: the engine would then look through
    // all of them for rows that wait for the new one.
    "UPDATE runs SET requests = requests + 1 WHERE id = ? AND ending IS NULL;
     INSERT INTO requests (run_id, status, jobs, job_count, slot_ms) VALUES (?, ?, ?, ?, ?);
     UPDATE jobs SET state = 'in_flight', request_id = last_insert_rowid(), held_by = NULL
       WHERE state = 'pending' AND id ",
    "; UPDATE tallies SET pending = pending - jobs, in_flight = in_flight + jobs
       FROM (SELECT value ->> 0 AS batch, value ->> 1 AS approval, value ->> 2 AS jobs FROM json_each(?))
       WHERE batch_id = batch AND status = ? AND approval_id = approval",
];

/// How the jobs are named.
pub(super) const IDS: &str = "IN (SELECT value FROM json_each(?))";
/// The same for numbers that follow one another, as they mostly do: no list of them.
pub(super) const IDS_IN_A_ROW: &str = "BETWEEN ? AND ?";

/// `pending → in_flight` for what was found, with the row of their request. A run that another
/// one has taken for dead claims nothing.
async fn claim(
    mut tx: Write,
    run: RunId,
    status: Status,
    found: Vec<Found>,
    slot_ms: i64,
) -> Result<Claimed, StoreError> {
    let mut shares: BTreeMap<(BatchId, i64), i64> = BTreeMap::new();
    for Found(_, _, _, batch, approval) in &found {
        *shares.entry((*batch, *approval)).or_default() += 1;
    }
    let by_tally: Vec<_> =
        shares.iter().map(|((batch, approval), jobs)| (batch, approval, jobs)).collect();
    let jobs = found.into_iter().map(read_job).collect::<Result<Vec<Job>, _>>()?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let first = ids.iter().copied().min().unwrap_or_default();
    let last = ids.iter().copied().max().unwrap_or_default();
    let in_a_row = usize::try_from(last - first + 1) == Ok(ids.len());
    let these = if in_a_row { IDS_IN_A_ROW } else { IDS };
    let writes = sqlx::query(AssertSqlSafe(CLAIM.join(these)))
        .bind(run)
        .bind(run)
        .bind(status.code())
        .bind(fold_ids(ids.iter().copied()))
        .bind(i64::try_from(ids.len()).unwrap_or(i64::MAX))
        .bind(slot_ms);
    let writes = if in_a_row { writes.bind(first).bind(last) } else { writes.bind(json(&ids)) };
    let done = writes.bind(json(&by_tally)).bind(status.code()).execute(&mut *tx).await;
    let done = done.doing("claim jobs")?;
    if done.rows_affected() != (2 + ids.len() + shares.len()) as u64 {
        find_pool(&mut tx, run).await?;
        let batch = shares.keys().next().map_or(0, |(batch, _)| *batch);
        return Err(no_tally(batch));
    }
    let request: RequestId = done.last_insert_rowid();
    tx.commit().await.doing("claim jobs")?;
    Ok(Claimed { request, status, jobs })
}

fn read_job(Found(id, question_id, in_doubt, ..): Found) -> Result<Job, StoreError> {
    let question_id = QuestionId::parse(question_id.as_bytes()).map_err(|reason| {
        StoreError::Impossible { table: "jobs", row: id, reason: format!("question_id: {reason}") }
    })?;
    Ok(Job { id, question_id, in_doubt: in_doubt != 0 })
}

/// Figures as a JSON array: one bound value however many there are.
pub(super) fn json<T: Serialize>(figures: &[T]) -> String {
    serde_json::to_string(figures).unwrap_or_default()
}
