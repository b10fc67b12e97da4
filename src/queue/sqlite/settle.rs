//! Settling: records a response and what becomes of its jobs, in one transaction.
//!
//! Every change applies to an open request and to its jobs in flight. If another process has taken over
//! the queue, a late response changes nothing and is reported as [`QueueError::Fenced`].

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::domain::conclusions::Conclusions;
use crate::domain::job::{JobId, JobState};
use crate::domain::verdict::Verdict;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::sqlite::superseded_in_flight::drop_withdrawn;
use crate::queue::sqlite::transaction::SqliteTransaction;
use crate::queue::{
    ClaimedRequest, Context as _, QueueError, RequestResult, RequeueOptions, SettleCounts,
};

const CONTEXT: &str = "settle a request";

impl SqliteTransaction {
    pub(in crate::queue) async fn settle_succeeded(
        &mut self,
        settled: &RequestResult,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        let done = self.finish(settled, JobState::Succeeded, false, conclusions).await;
        self.rollback_on_error(done)
    }

    pub(in crate::queue) async fn settle_failed(
        &mut self,
        settled: &RequestResult,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        let done = self.finish(settled, JobState::Failed, in_doubt, conclusions).await;
        self.rollback_on_error(done)
    }

    pub(in crate::queue) async fn requeue(
        &mut self,
        settled: &RequestResult,
        how: RequeueOptions,
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
    ) -> Result<SettleCounts, QueueError> {
        let connection = self.connection().await?;
        close_request(connection, settled, in_doubt, Some(state)).await?;
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
        .bind(settled.responded_ms)
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
        deltas.apply(connection, settled.responded_ms).await?;
        if in_doubt {
            doubts::note_lost(connection, &ids, settled.responded_ms).await?;
        } else if state == JobState::Succeeded {
            doubts::settle(connection, &ids, settled.responded_ms).await?;
        }
        let concluded = self.conclude(settled.run, conclusions, settled.responded_ms).await?;
        Ok(SettleCounts { jobs: rows.len() as u64, concluded })
    }

    async fn requeue_jobs(
        &mut self,
        settled: &RequestResult,
        how: RequeueOptions,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError> {
        let connection = self.connection().await?;
        close_request(connection, settled, how.in_doubt, None).await?;
        let rows = sqlx::query(
            "UPDATE jobs SET state = 'pending', reserved_by_run_id = ?2, not_before_ms = ?3, attempts = attempts + ?4,
                    response_lost = max(response_lost, ?5), rejected_in_chunk = max(rejected_in_chunk, ?6)
             WHERE request_id = ?1 AND state = 'in_flight'
             RETURNING id, batch_id, target_status, coalesce(approval_id, 0)",
        )
        .bind(settled.request.id)
        .bind(how.reserved_by)
        .bind(how.not_before_ms)
        .bind(how.counts_as_attempt)
        .bind(how.in_doubt)
        .bind(settled.verdict == Verdict::Rejected && settled.request.jobs > 1)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        let ids = settled_ids(settled.request, &rows)?;
        let mut deltas = CounterDeltas::default();
        for row in &rows {
            let key = CounterKey::read(row, 1).context(CONTEXT)?;
            deltas.move_jobs(key, JobState::InFlight, JobState::Pending, 1);
        }
        deltas.apply(connection, settled.responded_ms).await?;
        let withdrawn = drop_withdrawn(connection, &ids, settled.responded_ms).await?;
        if how.in_doubt {
            doubts::note_lost(connection, &ids, settled.responded_ms).await?;
        }
        self.conclude(settled.run, conclusions, settled.responded_ms).await?;
        Ok(withdrawn)
    }
}

/// Completes the row of an open request, and counts it for its run; its jobs too where they are finished
/// with `outcome`.
async fn close_request(
    connection: &mut SqliteConnection,
    settled: &RequestResult,
    response_lost: bool,
    outcome: Option<JobState>,
) -> Result<(), QueueError> {
    let request = settled.request.id;
    let closed = sqlx::query(
        "UPDATE requests SET verdict = ?, responded_ms = ?, latency_ms = ?, http_status = ?, code = ?, info = ?,
                response_lost = ?
         WHERE id = ? AND verdict IS NULL",
    )
    .bind(settled.verdict.name())
    .bind(settled.responded_ms)
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
    let jobs = i64::try_from(settled.request.jobs).unwrap_or(i64::MAX);
    let finished = |state| if outcome == Some(state) { jobs } else { 0 };
    let evaluated = matches!(settled.verdict, Verdict::Applied | Verdict::Rejected);
    sqlx::query(
        "UPDATE runs SET throttled = throttled + ?, evaluated_requests = evaluated_requests + ?,
                responses_lost = responses_lost + ?, succeeded = succeeded + ?, failed = failed + ?
         WHERE id = (SELECT run_id FROM requests WHERE id = ?)",
    )
    .bind(settled.verdict == Verdict::Throttled)
    .bind(evaluated)
    .bind(response_lost)
    .bind(finished(JobState::Succeeded))
    .bind(finished(JobState::Failed))
    .bind(request)
    .execute(connection)
    .await
    .map(drop)
    .context(CONTEXT)
}

/// The ids of the settled jobs: all jobs of the request. If there are fewer, another program has
/// changed one of them, and nothing is recorded.
fn settled_ids(request: ClaimedRequest, rows: &[SqliteRow]) -> Result<Vec<JobId>, QueueError> {
    if rows.len() as u64 != request.jobs {
        let reason = "its jobs were changed by another program while it was in flight";
        let reason = reason.to_owned();
        return Err(QueueError::Impossible { table: "requests", row: request.id, reason });
    }
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().context(CONTEXT)
}
