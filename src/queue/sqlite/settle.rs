//! Settling: what became of a request and of its jobs, recorded together.
//!
//! Every change is of a request that is open, and of jobs in flight in it. A response that comes
//! after another process took over the queue changes nothing and is reported
//! ([`QueueError::Fenced`]).

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::domain::conclusions::{Concluded, Conclusions};
use crate::domain::job::{JobId, JobState};
use crate::domain::verdict::Verdict;
use crate::queue::sqlite::claim::ClaimedRequest;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::sqlite::superseded_in_flight::drop_withdrawn;
use crate::queue::sqlite::transaction::WriteTransaction;
use crate::queue::{Context as _, QueueError, RunId};

/// The second half of a request's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestResult {
    /// The request, and how many jobs its claim has put into it.
    pub request: ClaimedRequest,
    /// The run that sent it.
    pub run: RunId,
    /// What its response means.
    pub verdict: Verdict,
    /// When the response came, or was given up, in UTC milliseconds.
    pub answered_ms: i64,
    /// How long that took, in milliseconds.
    pub latency_ms: u64,
    /// The HTTP status, if there was one.
    pub http_status: Option<u16>,
    /// The `ErrorCode`, if there was one.
    pub code: Option<i64>,
    /// The service's own text, or what went wrong on the way.
    pub info: String,
}

/// What a settling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Jobs of the request that have their outcome.
    pub jobs: u64,
    /// Other jobs that have theirs by this response.
    pub concluded: Concluded,
}

/// How jobs go back to pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// The run that reserves them for its own next chunks; `None`: free for any claim.
    pub reserved_by: Option<RunId>,
    /// Not to be sent before, in UTC milliseconds; 0: at once.
    pub not_before_ms: i64,
    /// Whether the request counts as an attempt of its jobs.
    pub counts: bool,
    /// Whether the response was lost: the change may have been made although nothing says so.
    pub in_doubt: bool,
}

const CONTEXT: &str = "record an answer";

impl WriteTransaction {
    /// `in_flight → succeeded` for the jobs of the request. An `ErrorCode` is kept with
    /// them only where it is part of the outcome: a delete in doubt whose repetition was
    /// rejected because the question is gone.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_succeeded(
        &mut self,
        settled: &RequestResult,
        conclusions: &Conclusions,
    ) -> Result<Done, QueueError> {
        let done = self.finish(settled, JobState::Succeeded, false, conclusions).await;
        self.rollback_on_error(done)
    }

    /// `in_flight → failed` for the jobs of the request, with its code and text. `in_doubt`
    /// where this very request may have been applied although no response says so.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_failed(
        &mut self,
        settled: &RequestResult,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, QueueError> {
        let done = self.finish(settled, JobState::Failed, in_doubt, conclusions).await;
        self.rollback_on_error(done)
    }

    /// `in_flight → pending` for the jobs of the request; those that were superseded or cancelled
    /// meanwhile go on to that state. Returns how many did.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn requeue(
        &mut self,
        settled: &RequestResult,
        how: Return,
    ) -> Result<u64, QueueError> {
        self.requeue_rejected(settled, how, &Conclusions::default()).await
    }

    /// The same for jobs that were rejected together, with what that says of others.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn requeue_rejected(
        &mut self,
        settled: &RequestResult,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError> {
        let withdrawn = self.requeue_jobs(settled, how, conclusions).await;
        self.rollback_on_error(withdrawn)
    }

    async fn finish(
        &mut self,
        settled: &RequestResult,
        state: JobState,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, QueueError> {
        let connection = self.connection().await?;
        close_request(connection, settled, in_doubt).await?;
        let keeps_code = settled.verdict != Verdict::Applied;
        let code = settled.code.filter(|_| keeps_code);
        let rows = sqlx::query(
            "UPDATE jobs SET state = ?2, finished_ms = ?3, attempts = attempts + 1, not_before_ms = 0,
                    cancel_requested = 0, response_lost = max(response_lost, ?4), error_code = ?5, error_info = ?6
             WHERE request_id = ?1 AND state = 'in_flight'
             RETURNING id, is_latest, batch_id, target_status, coalesce(approval_id, 0)",
        )
        .bind(settled.request.id)
        .bind(state.name())
        .bind(settled.answered_ms)
        .bind(in_doubt)
        .bind(code)
        .bind(keeps_code.then_some(&settled.info))
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        let ids = settled_ids(settled.request, &rows)?;
        let mut deltas = CounterDeltas::default();
        for row in &rows {
            let key = CounterKey::read(row, 2).context(CONTEXT)?;
            deltas.move_jobs(key, JobState::InFlight, state, 1);
            if state == JobState::Succeeded && code.is_some() {
                deltas.add(key, Counter::SucceededOnRetry, 1);
            }
            if state == JobState::Failed && !row.try_get::<bool, _>(1).context(CONTEXT)? {
                deltas.add(key, Counter::FailedSuperseded, 1);
            }
        }
        deltas.apply(connection, settled.answered_ms).await?;
        let jobs = rows.len() as u64;
        count_finished(connection, settled.request, state, jobs).await?;
        if in_doubt {
            doubts::note_lost(connection, &ids, settled.answered_ms).await?;
        } else if state == JobState::Succeeded {
            doubts::settle(connection, &ids, settled.answered_ms).await?;
        }
        let concluded = self.conclude(settled.run, conclusions, settled.answered_ms).await?;
        Ok(Done { jobs, concluded })
    }

    async fn requeue_jobs(
        &mut self,
        settled: &RequestResult,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError> {
        let connection = self.connection().await?;
        close_request(connection, settled, how.in_doubt).await?;
        let rows = sqlx::query(
            "UPDATE jobs SET state = 'pending', reserved_by_run_id = ?2, not_before_ms = ?3, attempts = attempts + ?4,
                    response_lost = max(response_lost, ?5), rejected_in_chunk = max(rejected_in_chunk, ?6)
             WHERE request_id = ?1 AND state = 'in_flight'
             RETURNING id, is_latest, batch_id, target_status, coalesce(approval_id, 0)",
        )
        .bind(settled.request.id)
        .bind(how.reserved_by)
        .bind(how.not_before_ms)
        .bind(how.counts)
        .bind(how.in_doubt)
        .bind(settled.verdict == Verdict::Rejected && settled.request.jobs > 1)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        let ids = settled_ids(settled.request, &rows)?;
        let mut deltas = CounterDeltas::default();
        for row in &rows {
            let key = CounterKey::read(row, 2).context(CONTEXT)?;
            deltas.move_jobs(key, JobState::InFlight, JobState::Pending, 1);
        }
        deltas.apply(connection, settled.answered_ms).await?;
        let withdrawn = drop_withdrawn(connection, &ids, settled.answered_ms).await?;
        if how.in_doubt {
            doubts::note_lost(connection, &ids, settled.answered_ms).await?;
        }
        self.conclude(settled.run, conclusions, settled.answered_ms).await?;
        Ok(withdrawn)
    }
}

/// Completes the row of a request that is open, and counts it for its run.
async fn close_request(
    connection: &mut SqliteConnection,
    settled: &RequestResult,
    response_lost: bool,
) -> Result<(), QueueError> {
    let request = settled.request.id;
    let closed = sqlx::query(
        "UPDATE requests SET verdict = ?, responded_ms = ?, latency_ms = ?, http_status = ?, code = ?, info = ?,
                response_lost = ?
         WHERE id = ? AND verdict IS NULL",
    )
    .bind(settled.verdict.name())
    .bind(settled.answered_ms)
    .bind(i64::try_from(settled.latency_ms).unwrap_or(i64::MAX))
    .bind(settled.http_status.map(i64::from))
    .bind(settled.code)
    .bind(&settled.info)
    .bind(response_lost)
    .bind(request)
    .execute(&mut *connection)
    .await
    .context(CONTEXT)?;
    if closed.rows_affected() == 0 {
        return Err(QueueError::Fenced { request });
    }
    let evaluated = matches!(settled.verdict, Verdict::Applied | Verdict::Rejected);
    sqlx::query(
        "UPDATE runs SET throttled = throttled + ?, evaluated_requests = evaluated_requests + ?,
                responses_lost = responses_lost + ?
         WHERE id = (SELECT run_id FROM requests WHERE id = ?)",
    )
    .bind(settled.verdict == Verdict::Throttled)
    .bind(evaluated)
    .bind(response_lost)
    .bind(request)
    .execute(connection)
    .await
    .map(drop)
    .context(CONTEXT)
}

/// The ids of the jobs that left their flight: all of the request's. Where they are fewer, another
/// program has changed one, and nothing is recorded.
fn settled_ids(request: ClaimedRequest, rows: &[SqliteRow]) -> Result<Vec<JobId>, QueueError> {
    if rows.len() as u64 != request.jobs {
        let reason = "its jobs were changed by another program while it was in flight";
        let reason = reason.to_owned();
        return Err(QueueError::Impossible { table: "requests", row: request.id, reason });
    }
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().context(CONTEXT)
}

/// Counts finished jobs for the run that sent the request.
async fn count_finished(
    connection: &mut SqliteConnection,
    request: ClaimedRequest,
    state: JobState,
    jobs: u64,
) -> Result<(), QueueError> {
    let jobs = i64::try_from(jobs).unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE runs SET succeeded = succeeded + ?, failed = failed + ?
         WHERE id = (SELECT run_id FROM requests WHERE id = ?)",
    )
    .bind(if state == JobState::Succeeded { jobs } else { 0 })
    .bind(if state == JobState::Failed { jobs } else { 0 })
    .bind(request.id)
    .execute(connection)
    .await
    .map(drop)
    .context(CONTEXT)
}
