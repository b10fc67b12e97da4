//! Settling: what became of a request and of its jobs, together.
//!
//! Every change is of a request that is open, and of jobs in flight in it: an answer that comes
//! after somebody else took over the queue changes nothing and is reported
//! ([`StoreError::Fenced`]).

use std::sync::LazyLock;

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use super::carried::{Carried, OfJobs, SHARES};
use super::doubts::{NOTED, SETTLED, UNDER_WAY_MAX_MS};
use super::overtaken::{drop_overtaken, overtaken_sql, read_overtaken};
use super::tallies::check_moved;
use super::turn::Turn;
use super::{Doing as _, RunId, StoreError};
use crate::domain::conclusions::{Concluded, Conclusions};
use crate::domain::job::JobState;
use crate::domain::verdict::Verdict;

/// The second half of a request's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The request, and what its claim says that it carries.
    pub carried: Carried,
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
    /// Other jobs that have theirs by this response.
    pub concluded: Concluded,
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
    /// Whether the response was lost: the change may have been made although nothing says so.
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
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        self.settle_final(settled, JobState::Succeeded, false, conclusions).await
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
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        self.settle_final(settled, JobState::Failed, in_doubt, conclusions).await
    }

    async fn settle_final(
        &mut self,
        settled: &Settlement,
        state: JobState,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        let done = self.finish(settled, state, in_doubt, conclusions).await;
        self.unless_failed(done)
    }

    async fn finish(
        &mut self,
        settled: &Settlement,
        state: JobState,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        let Carried { request, load } = &settled.carried;
        let keeps_code = settled.verdict != Verdict::Applied;
        let code = settled.code.filter(|_| keeps_code);
        let (text, found_done) = match state {
            JobState::Succeeded => (&SUCCEEDED, code.is_some()),
            _ => (&FAILED, false),
        };
        let told = self.ask(DOING, load.form(text), |settle| {
            let settle = close_request(settle, settled, in_doubt);
            let settle = settle.bind(found_done).bind(settled.answered_ms);
            let settle = load
                .bind_shares(settle)
                .bind(settled.answered_ms)
                .bind(i64::from(in_doubt))
                .bind(code)
                .bind(keeps_code.then_some(&settled.info));
            let settle = bind_run(load.bind(settle).bind(*request), settled, in_doubt);
            match state {
                JobState::Succeeded => settle,
                _ => load.bind(settle).bind(*request),
            }
        });
        let told = told.await?;
        let jobs = self.settled_jobs(&told.changes, settled).await?;
        if in_doubt {
            self.note_doubts(settled).await?;
        } else if state == JobState::Succeeded && load.doubted {
            self.settle_doubts(settled).await?;
        }
        let concluded = self.conclude(settled.run, conclusions, settled.answered_ms).await?;
        Ok(Done { jobs, concluded })
    }

    /// How many jobs left their flight: all of the request, if it was open. `changes` are those
    /// of [`CLOSE`] and the statements after it.
    async fn settled_jobs(
        &mut self,
        changes: &[u64],
        settled: &Settlement,
    ) -> Result<u64, StoreError> {
        let Carried { request, load } = &settled.carried;
        let &[closed, tallied, moved, ..] = changes else {
            return Err(sqlx::Error::RowNotFound).doing(DOING);
        };
        if closed == 0 {
            return Err(StoreError::Fenced { request: *request });
        }
        check_moved(self.begun()?, load, moved, tallied).await?;
        Ok(moved)
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
        self.settle_refused(settled, how, &Conclusions::default()).await
    }

    /// The same for jobs that were refused together, with what that says of others.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the request is not open, or when the file cannot be written.
    pub async fn settle_refused(
        &mut self,
        settled: &Settlement,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, StoreError> {
        let overtaken = self.give_back(settled, how, conclusions).await;
        self.unless_failed(overtaken)
    }

    async fn give_back(
        &mut self,
        settled: &Settlement,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, StoreError> {
        let Carried { request, load } = &settled.carried;
        let told = self.ask(DOING, load.form(&RETURNED), |settle| {
            let settle = load
                .bind_shares(close_request(load.bind(settle), settled, how.in_doubt))
                .bind(how.held_by)
                .bind(how.due_ms)
                .bind(i64::from(how.counts))
                .bind(i64::from(how.in_doubt));
            bind_run(load.bind(settle).bind(*request), settled, how.in_doubt)
        });
        let told = told.await?;
        self.settled_jobs(told.changes.get(1..).unwrap_or_default(), settled).await?;
        let overtaken = read_overtaken(&told.rows).doing(DOING)?;
        drop_overtaken(self.begun()?, &overtaken, settled.answered_ms).await?;
        if how.in_doubt {
            self.note_doubts(settled).await?;
        }
        self.conclude(settled.run, conclusions, settled.answered_ms).await?;
        Ok(overtaken.len() as u64)
    }

    /// The request may have been applied, and may still be: its questions are in doubt.
    async fn note_doubts(&mut self, settled: &Settlement) -> Result<(), StoreError> {
        let load = &settled.carried.load;
        let late_ms = settled.answered_ms.saturating_add(UNDER_WAY_MAX_MS);
        let noted = self.ask(DOING, load.form(&NOTED), |note| {
            load.bind(note.bind(late_ms)).bind(settled.answered_ms)
        });
        noted.await.map(drop)
    }

    /// The request was applied: whatever earlier ones came to, its questions are as asked now.
    async fn settle_doubts(&mut self, settled: &Settlement) -> Result<(), StoreError> {
        let load = &settled.carried.load;
        let done = self
            .ask(DOING, load.form(&SETTLED), |settle| load.bind(settle).bind(settled.answered_ms));
        done.await.map(drop)
    }
}

/// The second half of a request's row, if it is open.
const CLOSE: &str = "
    UPDATE requests SET verdict = ?, answered_ms = ?, latency_ms = ?, http_status = ?, code = ?, info = ?,
           response_lost = ?
      WHERE id = ? AND verdict IS NULL;";

/// Statements in which [`CLOSE`] comes first, then tallies, then jobs. Where the request was not
/// open none of them finds anything: jobs are found in flight in it, and the others do nothing
/// where the one before has changed nothing. That the answer was too late is told afterwards.
pub(super) static SUCCEEDED: LazyLock<OfJobs> =
    LazyLock::new(|| OfJobs::new(|these| ended_as(JobState::Succeeded, these)));

/// The same, and those that a newer import speaks for are counted apart.
pub(super) static FAILED: LazyLock<OfJobs> = LazyLock::new(|| {
    OfJobs::new(|these| {
        let failed = ended_as(JobState::Failed, these);
        format!(
            "{failed};
             UPDATE tallies SET overtaken = overtaken + old
               FROM (SELECT batch_id AS batch, status AS kind, coalesce(approval_id, 0) AS approval, count(*) AS old
                     FROM jobs WHERE {these} AND request_id = ? AND newest = 0 GROUP BY 1, 2, 3)
               WHERE batch_id = batch AND status = kind AND approval_id = approval AND changes() > 0"
        )
    })
});

fn ended_as(state: JobState, these: &str) -> String {
    format!(
        "{CLOSE}
         UPDATE tallies SET in_flight = in_flight - jobs, {state} = {state} + jobs,
                found_done = found_done + jobs * ?, finished_ms = max(finished_ms, ?) {SHARES};
         UPDATE jobs SET state = '{state}', finished_ms = ?, attempts = attempts + 1, due_ms = 0,
                response_lost = max(response_lost, ?), error_code = ?, error_info = ?
           WHERE {these} AND request_id = ? AND state = 'in_flight';
         UPDATE runs SET {state} = {state} + changes(), {OF_RUN}"
    )
}

/// The way back, likewise, after the overtaken jobs, which are its rows.
pub(super) static RETURNED: LazyLock<OfJobs> = LazyLock::new(|| {
    OfJobs::new(|these| {
        let overtaken = overtaken_sql(these);
        format!(
            "{overtaken};
             {CLOSE}
             UPDATE tallies SET in_flight = in_flight - jobs, pending = pending + jobs {SHARES};
             UPDATE jobs SET state = 'pending', held_by = ?, due_ms = ?, attempts = attempts + ?,
                    response_lost = max(response_lost, ?)
               WHERE {these} AND request_id = ? AND state = 'in_flight';
             UPDATE runs SET {OF_RUN}"
        )
    })
});

/// A statement in which [`CLOSE`] comes first, with the values for that.
fn close_request<'q>(
    statement: Query<'q, Sqlite, SqliteArguments>,
    settled: &'q Settlement,
    response_lost: bool,
) -> Query<'q, Sqlite, SqliteArguments> {
    statement
        .bind(settled.verdict.name())
        .bind(settled.answered_ms)
        .bind(i64::try_from(settled.latency_ms).unwrap_or(i64::MAX))
        .bind(settled.http_status.map(i64::from))
        .bind(settled.code)
        .bind(&settled.info)
        .bind(response_lost)
        .bind(settled.carried.request)
}

/// What every answer counts for its run.
const OF_RUN: &str =
    "throttled = throttled + ?, reached = reached + ?, responses_lost = responses_lost + ?
    WHERE id = (SELECT run_id FROM requests WHERE id = ?) AND changes() > 0";

/// The values of [`OF_RUN`].
fn bind_run<'q>(
    statement: Query<'q, Sqlite, SqliteArguments>,
    settled: &Settlement,
    response_lost: bool,
) -> Query<'q, Sqlite, SqliteArguments> {
    statement
        .bind(settled.verdict == Verdict::Throttled)
        .bind(has_reached(settled))
        .bind(response_lost)
        .bind(settled.carried.request)
}

/// Whether the service looked at the questions.
fn has_reached(settled: &Settlement) -> bool {
    matches!(settled.verdict, Verdict::Applied | Verdict::Rejected)
}
