//! Outcomes that come after the response: jobs that were rejected alone and waited until the app
//! was seen alive, and jobs that were rejected with others which have all passed since.
//!
//! Every change is of a job that is pending and reserved by the run, so that one that was
//! cancelled or superseded meanwhile keeps that.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::tallies::{Change, change, read_tally};
use super::turn::Turn;
use super::{Doing as _, RequestId, RunId, StoreError, doubts};
use crate::domain::job::{JobId, JobState};

/// The outcome of one job, by a rejection that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conclusion {
    /// The job.
    pub job: JobId,
    /// The request that was rejected; its code and text become the job's.
    pub request: RequestId,
    /// Whether the job has succeeded: a delete in doubt whose question is gone.
    pub is_done: bool,
    /// Whether it was alone in the request. One in doubt that was not is asked alone.
    pub was_alone: bool,
    /// Whether an earlier request may have been applied although its response does not say so.
    pub in_doubt: bool,
    /// In how many rejected requests of this run it was. A failed delete that was in others, of
    /// earlier runs, is in doubt too.
    pub rejections: u32,
}

/// What a response says of jobs that were not in its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conclusions {
    /// Those that have their outcome.
    pub jobs: Vec<Conclusion>,
    /// Those that are no longer reserved: any claim may take them.
    pub freed: Vec<JobId>,
}

/// How many jobs have got their outcome so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Concluded {
    /// Deletes found done.
    pub succeeded: u64,
    /// Failed jobs.
    pub failed: u64,
}

impl Turn {
    /// `pending → failed | succeeded` for jobs that `run` has reserved.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn conclude(
        &mut self,
        run: RunId,
        conclusions: &Conclusions,
        now_ms: i64,
    ) -> Result<Concluded, StoreError> {
        self.free_held(run, &conclusions.freed).await?;
        let mut concluded = Concluded::default();
        for conclusion in &conclusions.jobs {
            if self.conclude_one(run, *conclusion, now_ms).await? {
                concluded.succeeded += u64::from(conclusion.is_done);
                concluded.failed += u64::from(!conclusion.is_done);
            } else {
                self.free_held(run, &[conclusion.job]).await?;
            }
        }
        Ok(concluded)
    }

    async fn conclude_one(
        &mut self,
        run: RunId,
        conclusion: Conclusion,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let begun = self.begin().await;
        self.unless_failed(begun)?;
        let done = write(self.begun()?, run, conclusion, now_ms).await;
        self.unless_failed(done)
    }
}

async fn write(
    connection: &mut SqliteConnection,
    run: RunId,
    conclusion: Conclusion,
    now_ms: i64,
) -> Result<bool, StoreError> {
    const DOING: &str = "record a concluded job";
    let state = if conclusion.is_done { JobState::Succeeded } else { JobState::Failed };
    let row = sqlx::query(
        "UPDATE jobs SET state = ?1, held_by = NULL, due_ms = 0, finished_ms = ?2, request_id = ?3,
                error_code = (SELECT code FROM requests WHERE id = ?3),
                error_info = (SELECT info FROM requests WHERE id = ?3)
         WHERE id = ?5 AND state = 'pending' AND held_by = ?6
           AND (?7 OR NOT EXISTS (SELECT 1 FROM doubts WHERE doubts.question_id = jobs.question_id
                                    AND doubts.app_id = jobs.app_id AND doubts.open = 1))
         RETURNING batch_id, status, coalesce(approval_id, 0), newest = 0,
                   max(?4, ?1 = 'failed' AND status = 6 AND attempts > ?8)",
    )
    .bind(state.name())
    .bind(now_ms)
    .bind(conclusion.request)
    .bind(conclusion.in_doubt)
    .bind(conclusion.job)
    .bind(run)
    .bind(conclusion.was_alone)
    .bind(conclusion.rejections)
    .fetch_optional(&mut *connection)
    .await
    .doing(DOING)?;
    let Some(row) = row else { return Ok(false) };
    if conclusion.is_done {
        doubts::settle_job(connection, conclusion.job).await?;
    } else if row.try_get(4).doing(DOING)? {
        doubts::note_job(connection, conclusion.job).await?;
    }
    sqlx::query("UPDATE runs SET succeeded = succeeded + ?, failed = failed + ? WHERE id = ?")
        .bind(conclusion.is_done)
        .bind(!conclusion.is_done)
        .bind(run)
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
    let superseded: bool = row.try_get(3).doing(DOING)?;
    let moved = Change {
        overtaken: i64::from(superseded && !conclusion.is_done),
        found_done: i64::from(conclusion.is_done),
        finished_ms: now_ms,
        ..Change::moved(JobState::Pending, state, 1)
    };
    change(connection, read_tally(&row, 0).doing(DOING)?, moved).await?;
    Ok(true)
}
