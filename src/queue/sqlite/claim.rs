//! The claim: takes pending jobs for a request, committed before the request is sent.
//!
//! A claim touches as many rows as it takes, whatever the size of the queue. While an older job of a
//! question is in flight, its latest job is not claimed: two requests could otherwise be applied in the
//! wrong order. `claim_scope.rs` decides which jobs a run may claim.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use crate::domain::job::{Job, JobId, JobState, QuestionId, TargetStatus, fold_ids};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::claim_scope::ClaimScope;
use crate::queue::sqlite::connection::json;
use crate::queue::sqlite::job_counters::{CounterDeltas, CounterKey};
use crate::queue::sqlite::transaction::SqliteTransaction;
use crate::queue::{Claimed, ClaimedRequest, Context as _, QueueError, RequestId, RunId};

/// The end of the due jobs from which a claim takes its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Oldest,
    Newest,
}

impl From {
    fn order(self) -> &'static str {
        match self {
            Self::Oldest => "not_before_ms, id",
            Self::Newest => "not_before_ms DESC, id DESC",
        }
    }
}

impl SqliteTransaction {
    pub(in crate::queue) async fn claim_free(
        &mut self,
        run: RunId,
        jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        self.claim_from(From::Oldest, run, jobs_max, scheduled_ms).await
    }

    pub(in crate::queue) async fn claim_last(
        &mut self,
        run: RunId,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        self.claim_from(From::Newest, run, |_, _| 1, scheduled_ms).await
    }

    pub(in crate::queue) async fn claim_reserved(
        &mut self,
        run: RunId,
        status: TargetStatus,
        ids: &[JobId],
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        let mut savepoint = self.connection().await?.begin().await.context(CONTEXT)?;
        let claimed = claim_reserved(&mut savepoint, run, status, ids, scheduled_ms).await?;
        savepoint.commit().await.context(CONTEXT)?;
        Ok(self.note_claim(claimed))
    }

    pub(in crate::queue) async fn release(
        &mut self,
        run: RunId,
        ids: &[JobId],
    ) -> Result<(), QueueError> {
        if ids.is_empty() {
            return Ok(());
        }
        let connection = self.connection().await?;
        let released = sqlx::query(
            "UPDATE jobs SET reserved_by_run_id = NULL, not_before_ms = 0
             WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND reserved_by_run_id = ?",
        )
        .bind(json(ids))
        .bind(run)
        .execute(connection)
        .await
        .context("release reserved jobs");
        self.rollback_on_error(released).map(drop)
    }

    pub(in crate::queue) async fn release_all(&mut self, run: RunId) -> Result<(), QueueError> {
        let connection = self.connection().await?;
        let released = sqlx::query(
            "UPDATE jobs SET reserved_by_run_id = NULL, not_before_ms = 0
             WHERE state = 'pending' AND reserved_by_run_id = ?",
        )
        .bind(run)
        .execute(connection)
        .await
        .context("release reserved jobs");
        self.rollback_on_error(released).map(drop)
    }

    /// A failed claim keeps what the transaction wrote before.
    async fn claim_from(
        &mut self,
        from: From,
        run: RunId,
        jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        let scope = self.queue.claim_scope(run).await?;
        let mut savepoint = self.connection().await?.begin().await.context(CONTEXT)?;
        let claimed = claim_due(&mut savepoint, from, (run, scope), jobs_max, scheduled_ms).await?;
        savepoint.commit().await.context(CONTEXT)?;
        Ok(self.note_claim(claimed))
    }

    fn note_claim(&mut self, claimed: Option<Claimed>) -> Option<Claimed> {
        if let Some(claimed) = &claimed {
            self.claimed = Some(claimed.request.id);
        }
        claimed
    }
}

impl SqliteQueue {
    pub(in crate::queue) async fn has_reserved_jobs(&self, run: RunId) -> Result<bool, QueueError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jobs WHERE reserved_by_run_id = ?)")
            .bind(run)
            .fetch_one(&self.readers)
            .await
            .context("find reserved jobs")
    }

    pub(in crate::queue) async fn next_due_ms(
        &self,
        run: RunId,
    ) -> Result<Option<i64>, QueueError> {
        let scope = self.claim_scope(run).await?;
        let mut next: Option<i64> = None;
        for status in TargetStatus::ALL {
            let Some((condition, value)) = scope.condition(status) else { continue };
            let due =
                format!("SELECT min(not_before_ms) FROM jobs AS job WHERE {condition} AND {FREE}");
            let due: Option<i64> = sqlx::query_scalar(AssertSqlSafe(due))
                .bind(value)
                .bind(status.code())
                .fetch_one(&self.readers)
                .await
                .context("find the next due job")?;
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }
}

const CONTEXT: &str = "claim jobs";

/// The condition for free jobs of target status ?2, in addition to the scope of the run.
pub(in crate::queue) const FREE: &str =
    "job.target_status = ?2 AND job.state = 'pending' AND job.reserved_by_run_id IS NULL";

/// The condition, beside [`FREE`], for jobs that are due at ?3 and of whose question no older job is in
/// flight.
pub(in crate::queue) const DUE: &str = "job.not_before_ms <= ?3
    AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.state = 'in_flight' AND other.is_latest = 0
        AND other.app_id = job.app_id AND other.question_id = job.question_id)";

/// The columns that a claim reads: id, question, whether the question is in doubt for this target
/// status, and the key of the counter.
const CLAIMED: &str = "id, question_id,
    EXISTS (SELECT 1 FROM doubts WHERE doubts.question_id = jobs.question_id AND doubts.app_id = jobs.app_id
              AND doubts.target_status = jobs.target_status AND doubts.open = 1 AND doubts.lost = 1),
    batch_id, target_status, coalesce(approval_id, 0)";

async fn claim_due(
    connection: &mut SqliteConnection,
    from: From,
    (run, scope): (RunId, ClaimScope),
    mut jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
    scheduled_ms: i64,
) -> Result<Option<Claimed>, QueueError> {
    let mut first: Option<(i64, JobId, TargetStatus)> = None;
    for status in TargetStatus::ALL {
        if jobs_max(status, 0) == 0 {
            continue;
        }
        let due = first_due(connection, from, scope, status, scheduled_ms).await?;
        let Some((time, id)) = due else { continue };
        let is_before = |(first_time, first_id, _): &(i64, JobId, TargetStatus)| match from {
            From::Oldest => (time, id) < (*first_time, *first_id),
            From::Newest => (time, id) > (*first_time, *first_id),
        };
        if first.as_ref().is_none_or(is_before) {
            first = Some((time, id, status));
        }
    }
    let Some((_, id, status)) = first else { return Ok(None) };
    let Some((condition, value)) = scope.condition(status) else { return Ok(None) };
    let request = open_request(connection, run, status, scheduled_ms).await?;
    let jobs_max = i64::try_from(jobs_max(status, id).max(1)).unwrap_or(i64::MAX);
    // The first due job is among these: the transaction has had the write lock since it found that job.
    let claim = format!(
        "UPDATE jobs SET state = 'in_flight', request_id = ?4, reserved_by_run_id = NULL
         WHERE id IN (SELECT id FROM jobs AS job WHERE {condition} AND {FREE} AND {DUE} ORDER BY {} LIMIT ?5)
         RETURNING {CLAIMED}",
        from.order()
    );
    let rows = sqlx::query(AssertSqlSafe(claim))
        .bind(value)
        .bind(status.code())
        .bind(scheduled_ms)
        .bind(request)
        .bind(jobs_max)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
    finish_claim(connection, request, status, &rows).await.map(Some)
}

async fn claim_reserved(
    connection: &mut SqliteConnection,
    run: RunId,
    status: TargetStatus,
    ids: &[JobId],
    scheduled_ms: i64,
) -> Result<Option<Claimed>, QueueError> {
    const RESERVED: &str = "id IN (SELECT value FROM json_each(?1))
        AND state = 'pending' AND reserved_by_run_id = ?2 AND target_status = ?3";
    let any = format!("SELECT EXISTS (SELECT 1 FROM jobs WHERE {RESERVED})");
    let any: bool = sqlx::query_scalar(AssertSqlSafe(any))
        .bind(json(ids))
        .bind(run)
        .bind(status.code())
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    if !any {
        return Ok(None);
    }
    let request = open_request(connection, run, status, scheduled_ms).await?;
    let claim = format!(
        "UPDATE jobs SET state = 'in_flight', request_id = ?4, reserved_by_run_id = NULL
         WHERE {RESERVED} RETURNING {CLAIMED}"
    );
    let rows = sqlx::query(AssertSqlSafe(claim))
        .bind(json(ids))
        .bind(run)
        .bind(status.code())
        .bind(request)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
    finish_claim(connection, request, status, &rows).await.map(Some)
}

/// Completes the row of the request, and updates the counters.
async fn finish_claim(
    connection: &mut SqliteConnection,
    request: RequestId,
    status: TargetStatus,
    rows: &[SqliteRow],
) -> Result<Claimed, QueueError> {
    let mut deltas = CounterDeltas::default();
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        let key = CounterKey::read(row, 3).context(CONTEXT)?;
        deltas.move_jobs(key, JobState::Pending, JobState::InFlight, 1);
        jobs.push(read_job(row)?);
    }
    jobs.sort_unstable_by_key(|job| job.id);
    sqlx::query("UPDATE requests SET job_ids = ?, job_count = ? WHERE id = ?")
        .bind(fold_ids(jobs.iter().map(|job| job.id)))
        .bind(i64::try_from(jobs.len()).unwrap_or(i64::MAX))
        .bind(request)
        .execute(&mut *connection)
        .await
        .context(CONTEXT)?;
    deltas.apply(connection, 0).await?;
    let request = ClaimedRequest { id: request, jobs: jobs.len() as u64 };
    Ok(Claimed { request, status, jobs })
}

async fn first_due(
    connection: &mut SqliteConnection,
    from: From,
    scope: ClaimScope,
    status: TargetStatus,
    scheduled_ms: i64,
) -> Result<Option<(i64, JobId)>, QueueError> {
    let Some((condition, value)) = scope.condition(status) else { return Ok(None) };
    let first = format!(
        "SELECT not_before_ms, id FROM jobs AS job WHERE {condition} AND {FREE} AND {DUE} ORDER BY {} LIMIT 1",
        from.order()
    );
    sqlx::query_as(AssertSqlSafe(first))
        .bind(value)
        .bind(status.code())
        .bind(scheduled_ms)
        .fetch_optional(connection)
        .await
        .context("find a job")
}

/// Writes the row of a request before it is sent, and counts it for its run. Fails if another process
/// has ended the run.
async fn open_request(
    connection: &mut SqliteConnection,
    run: RunId,
    status: TargetStatus,
    scheduled_ms: i64,
) -> Result<RequestId, QueueError> {
    let counted =
        sqlx::query("UPDATE runs SET requests = requests + 1 WHERE id = ? AND ending IS NULL")
            .bind(run)
            .execute(&mut *connection)
            .await
            .context(CONTEXT)?;
    if counted.rows_affected() == 0 {
        return Err(QueueError::TakenOver { run });
    }
    // The claim fills in the jobs once it has found them.
    let opened = sqlx::query(
        "INSERT INTO requests (run_id, target_status, job_ids, job_count, scheduled_ms) VALUES (?, ?, '', 1, ?)",
    )
    .bind(run)
    .bind(status.code())
    .bind(scheduled_ms)
    .execute(connection)
    .await
    .context(CONTEXT)?;
    Ok(opened.last_insert_rowid())
}

fn read_job(row: &SqliteRow) -> Result<Job, QueueError> {
    let id: JobId = row.try_get(0).context(CONTEXT)?;
    let question: String = row.try_get(1).context(CONTEXT)?;
    let question_id = QuestionId::try_from(question).map_err(|reason| {
        let reason = format!("question_id: {reason}");
        QueueError::Impossible { table: "jobs", row: id, reason }
    })?;
    Ok(Job { id, question_id, in_doubt: row.try_get(2).context(CONTEXT)? })
}
