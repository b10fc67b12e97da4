//! Settling: what became of a request and of its jobs, in one transaction.
//!
//! Every statement names the request that claimed the jobs, so an answer that comes after
//! somebody else took over the queue changes nothing and is reported ([`StoreError::Fenced`]).

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, Sqlite, Transaction};

use super::claim::{free_held, json};
use super::tallies::{
    Change, Shares, Tally, carried, change, change_all, overtaken_of, read_tally,
};
use super::{Doing as _, RequestId, RunId, Store, StoreError};
use crate::isolate::Findings;
use crate::job::{JobId, JobState};
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
        self.settle_final(settled, JobState::Succeeded, false, findings).await
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
        self.settle_final(settled, JobState::Failed, in_doubt, findings).await
    }

    async fn settle_final(
        &self,
        settled: &Settlement,
        state: JobState,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        let mut tx = self.write("settle a request").await?;
        close_request(&mut tx, settled).await?;
        let keeps_code = settled.verdict != Verdict::Applied;
        let code = settled.code.filter(|_| keeps_code);
        let shares = carried(&mut tx, settled.request).await?;
        let overtaken = match state {
            JobState::Failed => overtaken_of(&mut tx, settled.request).await?,
            _ => Shares::new(),
        };
        let done = sqlx::query(
            "UPDATE jobs SET state = ?, finished_ms = ?, attempts = attempts + 1, due_ms = 0,
                    in_doubt = max(in_doubt, ?), error_code = ?, error_info = ?
             WHERE request_id = ? AND state = 'in_flight'",
        )
        .bind(state.name())
        .bind(settled.answered_ms)
        .bind(i64::from(in_doubt))
        .bind(code)
        .bind(keeps_code.then_some(&settled.info))
        .bind(settled.request)
        .execute(&mut *tx)
        .await
        .doing("settle jobs")?;
        let found_done = state == JobState::Succeeded && code.is_some();
        change_all(&mut tx, &shares, |jobs| Change {
            found_done: if found_done { jobs } else { 0 },
            finished_ms: settled.answered_ms,
            ..Change::moved(JobState::InFlight, state, jobs)
        })
        .await?;
        let speaks_no_more = |jobs| Change { overtaken: jobs, ..Change::default() };
        change_all(&mut tx, &overtaken, speaks_no_more).await?;
        let concluded = apply(&mut tx, settled, findings).await?;
        let done = Done { jobs: done.rows_affected(), concluded };
        let (succeeded, failed) = match state {
            JobState::Succeeded => (done.jobs, concluded),
            _ => (0, done.jobs + concluded),
        };
        note_in_run(&mut tx, settled, succeeded, failed).await?;
        tx.commit().await.doing("settle a request")?;
        Ok(done)
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
        let shares = carried(&mut tx, settled.request).await?;
        let overtaken = overtaken(&mut tx, Some(settled.request)).await?;
        sqlx::query(
            "UPDATE jobs SET state = 'pending', held_by = ?, due_ms = ?, attempts = attempts + ?,
                    in_doubt = max(in_doubt, ?)
             WHERE request_id = ? AND state = 'in_flight'",
        )
        .bind(how.held_by)
        .bind(how.due_ms)
        .bind(i64::from(how.counts))
        .bind(i64::from(how.in_doubt))
        .bind(settled.request)
        .execute(&mut *tx)
        .await
        .doing("return jobs")?;
        let moved = |jobs| Change::moved(JobState::InFlight, JobState::Pending, jobs);
        change_all(&mut tx, &shares, moved).await?;
        drop_overtaken(&mut tx, &overtaken, settled.answered_ms).await?;
        let concluded = apply(&mut tx, settled, findings).await?;
        note_in_run(&mut tx, settled, 0, concluded).await?;
        tx.commit().await.doing("settle a request")?;
        Ok(overtaken.len() as u64)
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
    if done.rows_affected() > 0 {
        tally_concluded(tx, job, settled.answered_ms).await?;
    }
    free_held(tx, settled.run, &[job]).await?;
    Ok(done.rows_affected())
}

/// `pending → failed` of one job in the figures.
async fn tally_concluded(
    connection: &mut SqliteConnection,
    job: JobId,
    now_ms: i64,
) -> Result<(), StoreError> {
    const DOING: &str = "settle a concluded job";
    let row = sqlx::query(
        "SELECT batch_id, status, coalesce(approval_id, 0), newest = 0 FROM jobs WHERE id = ?",
    )
    .bind(job)
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    let moved = Change {
        overtaken: row.try_get(3).doing(DOING)?,
        finished_ms: now_ms,
        ..Change::moved(JobState::Pending, JobState::Failed, 1)
    };
    change(connection, read_tally(&row, 0).doing(DOING)?, moved).await
}

/// What a request came to, in the figures of its run.
async fn note_in_run(
    connection: &mut SqliteConnection,
    settled: &Settlement,
    succeeded: u64,
    failed: u64,
) -> Result<(), StoreError> {
    let reached = matches!(settled.verdict, Verdict::Applied | Verdict::Rejected);
    sqlx::query(
        "UPDATE runs SET throttled = throttled + ?, reached = reached + ?, succeeded = succeeded + ?,
                failed = failed + ?
         WHERE id = (SELECT run_id FROM requests WHERE id = ?)",
    )
    .bind(settled.verdict == Verdict::Throttled)
    .bind(reached)
    .bind(i64::try_from(succeeded).unwrap_or(i64::MAX))
    .bind(i64::try_from(failed).unwrap_or(i64::MAX))
    .bind(settled.request)
    .execute(connection)
    .await
    .map(drop)
    .doing("record an answer")
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

/// A job in flight that a newer import or a cancel has overtaken.
pub(super) struct Overtaken {
    id: JobId,
    tally: Tally,
    /// Whether by an import.
    superseded: bool,
}

/// Those in flight in `request`, or in any.
pub(super) async fn overtaken(
    connection: &mut SqliteConnection,
    request: Option<RequestId>,
) -> Result<Vec<Overtaken>, StoreError> {
    const DOING: &str = "look for overtaken jobs";
    let rows = match request {
        Some(request) => sqlx::query(
            "SELECT batch_id, status, coalesce(approval_id, 0), id, newest = 0 FROM jobs
             WHERE request_id = ? AND state = 'in_flight'
               AND (newest = 0 OR EXISTS (SELECT 1 FROM batches WHERE id = batch_id AND cancelled_ms IS NOT NULL))",
        )
        .bind(request),
        None => sqlx::query(
            "SELECT batch_id, status, coalesce(approval_id, 0), id, newest = 0 FROM jobs
             WHERE state = 'in_flight'
               AND (newest = 0 OR EXISTS (SELECT 1 FROM batches WHERE id = batch_id AND cancelled_ms IS NOT NULL))",
        ),
    };
    let rows = rows.fetch_all(connection).await.doing(DOING)?;
    let read = |row: &SqliteRow| -> Result<Overtaken, sqlx::Error> {
        let (id, superseded) = (row.try_get(3)?, row.try_get(4)?);
        Ok(Overtaken { id, tally: read_tally(row, 0)?, superseded })
    };
    rows.iter().map(read).collect::<Result<_, _>>().doing(DOING)
}

/// `pending → superseded | cancelled` for `overtaken` jobs that were just returned.
pub(super) async fn drop_overtaken(
    connection: &mut SqliteConnection,
    overtaken: &[Overtaken],
    now_ms: i64,
) -> Result<(), StoreError> {
    for (superseded, state) in [(true, JobState::Superseded), (false, JobState::Cancelled)] {
        let jobs = overtaken.iter().filter(|job| job.superseded == superseded);
        let ids: Vec<JobId> = jobs.clone().map(|job| job.id).collect();
        if ids.is_empty() {
            continue;
        }
        sqlx::query(
            "UPDATE jobs SET state = ?, held_by = NULL, due_ms = 0, finished_ms = ?
             WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'",
        )
        .bind(state.name())
        .bind(now_ms)
        .bind(json(&ids))
        .execute(&mut *connection)
        .await
        .doing("drop overtaken jobs")?;
        let mut shares = Shares::new();
        for job in jobs {
            *shares.entry(job.tally).or_default() += 1;
        }
        change_all(connection, &shares, |jobs| Change {
            finished_ms: now_ms,
            ..Change::moved(JobState::Pending, state, jobs)
        })
        .await?;
    }
    Ok(())
}
