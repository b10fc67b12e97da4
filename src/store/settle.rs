//! Settling: what became of a request and of its jobs, in one transaction.
//!
//! Every statement names the request that claimed the jobs, so an answer that comes after
//! somebody else took over the queue changes nothing and is reported ([`StoreError::Fenced`]).

use sqlx::{Sqlite, Transaction};

use super::claim::{free_held, json};
use super::{Doing as _, RequestId, RunId, Store, StoreError};
use crate::isolate::Findings;
use crate::job::JobId;
use crate::verdict::Verdict;

/// The second half of a request's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The request.
    pub request: RequestId,
    /// The run that sent it.
    pub run: RunId,
    /// What its answer means.
    pub verdict: Verdict,
    /// When the answer came, or was given up, in UTC milliseconds.
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
    /// Jobs that were not asked and have failed all the same, by conclusion.
    pub concluded: u64,
}

/// How jobs go back to pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    /// The run that keeps them for a chunk of its own making; `None`: free for anyone.
    pub held_by: Option<RunId>,
    /// Not to be sent before, in UTC milliseconds; 0: at once.
    pub due_ms: i64,
    /// Whether the request counts as an attempt of its jobs.
    pub counts: bool,
    /// Whether the change may have been made although no answer says so.
    pub in_doubt: bool,
}

impl Store {
    /// `in_flight → succeeded` for the jobs of the request. An `ErrorCode` is kept with
    /// them only where it is part of the outcome: a delete in doubt whose repetition was
    /// refused because the question is gone.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_succeeded(
        &self,
        settled: &Settlement,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        self.settle_final(settled, "succeeded", false, findings).await
    }

    /// `in_flight → failed` for the jobs of the request, with its code and text. `in_doubt`
    /// where this very request may have been applied unseen.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_failed(
        &self,
        settled: &Settlement,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        self.settle_final(settled, "failed", in_doubt, findings).await
    }

    async fn settle_final(
        &self,
        settled: &Settlement,
        state: &'static str,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        let mut tx = self.write("settle a request").await?;
        close_request(&mut tx, settled).await?;
        let keeps_code = settled.verdict != Verdict::Applied;
        let done = sqlx::query(
            "UPDATE jobs SET state = ?, finished_ms = ?, attempts = attempts + 1, due_ms = 0,
                    in_doubt = max(in_doubt, ?), error_code = ?, error_info = ?
             WHERE request_id = ? AND state = 'in_flight'",
        )
        .bind(state)
        .bind(settled.answered_ms)
        .bind(i64::from(in_doubt))
        .bind(settled.code.filter(|_| keeps_code))
        .bind(keeps_code.then_some(&settled.info))
        .bind(settled.request)
        .execute(&mut *tx)
        .await
        .doing("settle jobs")?;
        let concluded = apply(&mut tx, settled, findings).await?;
        tx.commit().await.doing("settle a request")?;
        Ok(Done { jobs: done.rows_affected(), concluded })
    }

    /// `in_flight → pending` for the jobs of the request; those that a newer import or a
    /// cancel has overtaken meanwhile go on to `superseded` or `cancelled`. Says how many
    /// did.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_returned(
        &self,
        settled: &Settlement,
        how: Return,
    ) -> Result<u64, StoreError> {
        self.settle_refused(settled, how, &Findings::default()).await
    }

    /// The same for jobs that were refused together, with what that says of others.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_refused(
        &self,
        settled: &Settlement,
        how: Return,
        findings: &Findings,
    ) -> Result<u64, StoreError> {
        let mut tx = self.write("settle a request").await?;
        close_request(&mut tx, settled).await?;
        let returned: Vec<JobId> = sqlx::query_scalar(
            "UPDATE jobs SET state = 'pending', held_by = ?, due_ms = ?, attempts = attempts + ?,
                    in_doubt = max(in_doubt, ?)
             WHERE request_id = ? AND state = 'in_flight' RETURNING id",
        )
        .bind(how.held_by)
        .bind(how.due_ms)
        .bind(i64::from(how.counts))
        .bind(i64::from(how.in_doubt))
        .bind(settled.request)
        .fetch_all(&mut *tx)
        .await
        .doing("return jobs")?;
        let overtaken = drop_overtaken(&mut tx, &returned, settled.answered_ms).await?;
        apply(&mut tx, settled, findings).await?;
        tx.commit().await.doing("settle a request")?;
        Ok(overtaken)
    }
}

/// What an answer says of jobs that were not in its request: some are suspected no longer,
/// and one may have failed without being asked alone (`pending → failed`), with the code of
/// the last refusal that it was part of. One in doubt is never judged so: it is asked.
async fn apply(
    tx: &mut Transaction<'static, Sqlite>,
    settled: &Settlement,
    findings: &Findings,
) -> Result<u64, StoreError> {
    if !findings.freed.is_empty() {
        free_held(tx, settled.run, &findings.freed).await?;
    }
    let Some((job, refusal)) = findings.bad else { return Ok(0) };
    let done = sqlx::query(
        "UPDATE jobs SET state = 'failed', held_by = NULL, due_ms = 0, finished_ms = ?1, request_id = ?2,
                error_code = (SELECT code FROM requests WHERE id = ?2),
                error_info = (SELECT info FROM requests WHERE id = ?2)
         WHERE id = ?3 AND state = 'pending' AND held_by = ?4 AND in_doubt = 0",
    )
    .bind(settled.answered_ms)
    .bind(refusal)
    .bind(job)
    .bind(settled.run)
    .execute(&mut **tx)
    .await
    .doing("settle a concluded job")?;
    free_held(tx, settled.run, &[job]).await?;
    Ok(done.rows_affected())
}

/// Writes the second half of a request's row; refuses one that is not open.
async fn close_request(
    tx: &mut Transaction<'static, Sqlite>,
    settled: &Settlement,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE requests SET verdict = ?, answered_ms = ?, latency_ms = ?, http_status = ?, code = ?, info = ?
         WHERE id = ? AND verdict IS NULL",
    )
    .bind(settled.verdict.name())
    .bind(settled.answered_ms)
    .bind(i64::try_from(settled.latency_ms).unwrap_or(i64::MAX))
    .bind(settled.http_status.map(i64::from))
    .bind(settled.code)
    .bind(&settled.info)
    .bind(settled.request)
    .execute(&mut **tx)
    .await
    .doing("record an answer")?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Fenced { request: settled.request })
    }
}

/// `pending → superseded | cancelled` for those of the jobs just `returned` that a newer
/// import or a cancel has overtaken while they were in flight.
pub(super) async fn drop_overtaken(
    tx: &mut Transaction<'static, Sqlite>,
    returned: &[JobId],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let ids = json(returned);
    let superseded = sqlx::query(
        "UPDATE jobs SET state = 'superseded', held_by = NULL, due_ms = 0, finished_ms = ?
         WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND newest = 0",
    )
    .bind(now_ms)
    .bind(&ids)
    .execute(&mut **tx)
    .await
    .doing("supersede returned jobs")?;
    let cancelled = sqlx::query(
        "UPDATE jobs SET state = 'cancelled', held_by = NULL, due_ms = 0, finished_ms = ?
         WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'
           AND batch_id IN (SELECT id FROM batches WHERE cancelled_ms IS NOT NULL)",
    )
    .bind(now_ms)
    .bind(&ids)
    .execute(&mut **tx)
    .await
    .doing("cancel returned jobs")?;
    Ok(superseded.rows_affected() + cancelled.rows_affected())
}
