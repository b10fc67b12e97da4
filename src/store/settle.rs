//! Settling: what became of a request and of its jobs, together.
//!
//! Every statement names the request that claimed the jobs, so an answer that comes after
//! somebody else took over the queue changes nothing and is reported ([`StoreError::Fenced`]).

use std::sync::LazyLock;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Row as _, Sqlite};

use super::overtaken::{drop_overtaken, overtaken_sql, read_overtaken};
use super::tallies::{CARRIED, Change, MISSING, change, read_tally, uncounted};
use super::turn::Turn;
use super::write::Text;
use super::{Doing as _, RequestId, RunId, StoreError};
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

const DOING: &str = "record an answer";

impl Turn {
    /// `in_flight → succeeded` for the jobs of the request. An `ErrorCode` is kept with
    /// them only where it is part of the outcome: a delete in doubt whose repetition was
    /// refused because the question is gone.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_succeeded(
        &mut self,
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
        &mut self,
        settled: &Settlement,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        self.settle_final(settled, JobState::Failed, in_doubt, findings).await
    }

    async fn settle_final(
        &mut self,
        settled: &Settlement,
        state: JobState,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        let done = self.finish(settled, state, in_doubt, findings).await;
        self.unless_failed(done)
    }

    async fn finish(
        &mut self,
        settled: &Settlement,
        state: JobState,
        in_doubt: bool,
        findings: &Findings,
    ) -> Result<Done, StoreError> {
        let keeps_code = settled.verdict != Verdict::Applied;
        let code = settled.code.filter(|_| keeps_code);
        let found_done = state == JobState::Succeeded && code.is_some();
        let told = self.ask(DOING, &FINAL, |settle| {
            close_request(settle, settled)
                .bind(state == JobState::Succeeded)
                .bind(found_done)
                .bind(settled.answered_ms)
                .bind(settled.request)
                .bind(settled.request)
                .bind(state.name())
                .bind(settled.answered_ms)
                .bind(i64::from(in_doubt))
                .bind(code)
                .bind(keeps_code.then_some(&settled.info))
                .bind(settled.request)
                .bind(state == JobState::Succeeded)
                .bind(state == JobState::Failed)
                .bind(settled.verdict == Verdict::Throttled)
                .bind(has_reached(settled))
                .bind(settled.request)
        });
        let told = told.await?;
        // As many as statements in `FINAL`.
        let (&[closed, _, _, jobs, _], [missing]) = (&told.changes[..], &told.rows[..]) else {
            return Err(sqlx::Error::RowNotFound).doing(DOING);
        };
        unless_closed_before(closed, settled)?;
        self.unless_missing(missing, settled.request).await?;
        let concluded = self.apply(settled, findings).await?;
        Ok(Done { jobs, concluded })
    }

    /// `in_flight → pending` for the jobs of the request; those that a newer import or a
    /// cancel has overtaken meanwhile go on to `superseded` or `cancelled`. Says how many
    /// did.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_returned(
        &mut self,
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
        &mut self,
        settled: &Settlement,
        how: Return,
        findings: &Findings,
    ) -> Result<u64, StoreError> {
        let overtaken = self.give_back(settled, how, findings).await;
        self.unless_failed(overtaken)
    }

    async fn give_back(
        &mut self,
        settled: &Settlement,
        how: Return,
        findings: &Findings,
    ) -> Result<u64, StoreError> {
        let told = self.ask(DOING, &RETURNED, |settle| {
            close_request(settle, settled)
                .bind(settled.request)
                .bind(settled.request)
                .bind(settled.request)
                .bind(how.held_by)
                .bind(how.due_ms)
                .bind(i64::from(how.counts))
                .bind(i64::from(how.in_doubt))
                .bind(settled.request)
                .bind(settled.verdict == Verdict::Throttled)
                .bind(has_reached(settled))
                .bind(settled.request)
        });
        let told = told.await?;
        let (&[closed, ..], [overtaken @ .., missing]) = (&told.changes[..], &told.rows[..]) else {
            return Err(sqlx::Error::RowNotFound).doing(DOING);
        };
        unless_closed_before(closed, settled)?;
        self.unless_missing(missing, settled.request).await?;
        let overtaken = read_overtaken(overtaken).doing(DOING)?;
        drop_overtaken(self.begun()?, &overtaken, settled.answered_ms).await?;
        self.apply(settled, findings).await?;
        Ok(overtaken.len() as u64)
    }

    /// Refuses jobs that are counted nowhere, by the row of [`MISSING`].
    async fn unless_missing(
        &mut self,
        missing: &SqliteRow,
        request: RequestId,
    ) -> Result<(), StoreError> {
        match missing.try_get::<i64, _>(0).doing(DOING)? {
            0 => Ok(()),
            _ => Err(uncounted(self.begun()?, request).await?),
        }
    }

    /// What an answer says of jobs that were not in its request: some are suspected no longer,
    /// and one may have failed without being asked alone (`pending → failed`), with the code of
    /// the last refusal that it was part of. One in doubt is never judged so: it is asked.
    async fn apply(
        &mut self,
        settled: &Settlement,
        findings: &Findings,
    ) -> Result<u64, StoreError> {
        const DOING: &str = "settle a concluded job";
        self.free_held(settled.run, &findings.freed).await?;
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
        .execute(&mut **self.begun()?)
        .await
        .doing(DOING)?;
        if done.rows_affected() > 0 {
            tally_concluded(self.begun()?, job, settled).await?;
        }
        self.free_held(settled.run, &[job]).await?;
        Ok(done.rows_affected())
    }
}

/// The second half of a request's row, if it is open.
const CLOSE: &str = "
    UPDATE requests SET verdict = ?, answered_ms = ?, latency_ms = ?, http_status = ?, code = ?, info = ?
      WHERE id = ? AND verdict IS NULL;";

/// A final outcome. The row is that of [`MISSING`].
pub(super) static FINAL: LazyLock<Text> = LazyLock::new(|| {
    Text::new(&format!(
        "{CLOSE}
         UPDATE tallies SET in_flight = in_flight - jobs, succeeded = succeeded + jobs * done,
                failed = failed + jobs * (1 - done), overtaken = overtaken + old * (1 - done),
                found_done = found_done + jobs * coded, finished_ms = max(finished_ms, at_ms)
           FROM (SELECT *, ? AS done, ? AS coded, ? AS at_ms FROM ({CARRIED}))
           WHERE batch_id = batch AND status = kind AND approval_id = approval;
         {MISSING};
         UPDATE jobs SET state = ?, finished_ms = ?, attempts = attempts + 1, due_ms = 0,
                in_doubt = max(in_doubt, ?), error_code = ?, error_info = ?
           WHERE request_id = ? AND state = 'in_flight';
         UPDATE runs SET succeeded = succeeded + changes() * ?, failed = failed + changes() * ?,
                throttled = throttled + ?, reached = reached + ?
           WHERE id = (SELECT run_id FROM requests WHERE id = ?)"
    ))
});

/// The way back, likewise. The rows are the overtaken jobs, and that of [`MISSING`].
pub(super) static RETURNED: LazyLock<Text> = LazyLock::new(|| {
    let overtaken = overtaken_sql("request_id = ? AND");
    Text::new(&format!(
        "{CLOSE}
         {overtaken};
         UPDATE tallies SET in_flight = in_flight - jobs, pending = pending + jobs FROM ({CARRIED})
           WHERE batch_id = batch AND status = kind AND approval_id = approval;
         {MISSING};
         UPDATE jobs SET state = 'pending', held_by = ?, due_ms = ?, attempts = attempts + ?,
                in_doubt = max(in_doubt, ?)
           WHERE request_id = ? AND state = 'in_flight';
         UPDATE runs SET throttled = throttled + ?, reached = reached + ?
           WHERE id = (SELECT run_id FROM requests WHERE id = ?)"
    ))
});

/// A statement in which [`CLOSE`] comes first, with the values for that.
fn close_request<'q>(
    statement: Query<'q, Sqlite, SqliteArguments>,
    settled: &'q Settlement,
) -> Query<'q, Sqlite, SqliteArguments> {
    statement
        .bind(settled.verdict.name())
        .bind(settled.answered_ms)
        .bind(i64::try_from(settled.latency_ms).unwrap_or(i64::MAX))
        .bind(settled.http_status.map(i64::from))
        .bind(settled.code)
        .bind(&settled.info)
        .bind(settled.request)
}

/// Refuses a request of which none was `closed`: it was not open.
fn unless_closed_before(closed: u64, settled: &Settlement) -> Result<(), StoreError> {
    if closed == 0 { Err(StoreError::Fenced { request: settled.request }) } else { Ok(()) }
}

/// Whether the service looked at the questions.
fn has_reached(settled: &Settlement) -> bool {
    matches!(settled.verdict, Verdict::Applied | Verdict::Rejected)
}

/// `pending → failed` of one job in the figures, those of the run too.
async fn tally_concluded(
    connection: &mut SqliteConnection,
    job: JobId,
    settled: &Settlement,
) -> Result<(), StoreError> {
    const DOING: &str = "settle a concluded job";
    sqlx::query(
        "UPDATE runs SET failed = failed + 1 WHERE id = (SELECT run_id FROM requests WHERE id = ?)",
    )
    .bind(settled.request)
    .execute(&mut *connection)
    .await
    .doing(DOING)?;
    let row = sqlx::query(
        "SELECT batch_id, status, coalesce(approval_id, 0), newest = 0 FROM jobs WHERE id = ?",
    )
    .bind(job)
    .fetch_one(&mut *connection)
    .await
    .doing(DOING)?;
    let moved = Change {
        overtaken: row.try_get(3).doing(DOING)?,
        finished_ms: settled.answered_ms,
        ..Change::moved(JobState::Pending, JobState::Failed, 1)
    };
    change(connection, read_tally(&row, 0).doing(DOING)?, moved).await
}
