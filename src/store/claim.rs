//! The claim: jobs into a request, in a run's turn to write, before it leaves.
//!
//! A claim touches as many rows as it takes, whatever the size of the queue. A question
//! that is in flight for an older job is left alone until that one is settled, so that two
//! intents for it cannot overtake each other on the way. Deletes are found by the approval of
//! the run, and by nothing else (`pool.rs`).

use std::sync::LazyLock;

use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Row as _};

use super::carried::{Carried, Load, OfJobs, SHARES};
use super::pool::{FOUND, Pool};
use super::tallies::check_moved;
use super::turn::Turn;
use super::write::{Text, json};
use super::{BatchId, Doing as _, RequestId, RunId, Store, StoreError};
use crate::domain::job::{Job, JobId, QuestionId, Status, fold_ids};

/// Jobs that are in flight now, and the durable row of the request that shall carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The request, and what it carries.
    pub carried: Carried,
    /// The jobs, at least one.
    pub jobs: Vec<Job>,
}

impl Claimed {
    /// The number of its request.
    pub fn request(&self) -> RequestId {
        self.carried.request
    }

    /// The status that all of its jobs shall have.
    pub fn status(&self) -> Status {
        self.carried.load.status
    }

    /// The numbers of its jobs.
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }
}

impl Turn {
    /// Claims free jobs of one status, the oldest that are due first. `jobs_max` is asked twice: for
    /// job 0, which there is not, it says the most for any job of a status, where 0 passes that
    /// status over; then how many with this first one, which is at least one. `None` when there
    /// is none.
    ///
    /// # Errors
    /// [`StoreError::TakenOver`] when the run is no longer going on; when the queue file cannot
    /// be written or holds an impossible row.
    pub async fn claim_free(
        &mut self,
        run: RunId,
        jobs_max: impl FnMut(Status, JobId) -> usize,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        let pool = self.store.pool_of(run).await?;
        match self.find_free(&pool, &pool.free, jobs_max, slot_ms).await? {
            Some((status, found)) => self.claim(run, status, found, slot_ms).await,
            None => Ok(None),
        }
    }

    /// Claims one free job, the last that is due: far from those that were claimed before.
    ///
    /// # Errors
    /// As for [`Turn::claim_free`].
    pub async fn claim_last(
        &mut self,
        run: RunId,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        let pool = self.store.pool_of(run).await?;
        match self.find_free(&pool, &pool.last, |_, _| 1, slot_ms).await? {
            Some((status, found)) => self.claim(run, status, found, slot_ms).await,
            None => Ok(None),
        }
    }

    /// Gives everything that `run` holds back to the pool.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn free_all_held(&mut self, run: RunId) -> Result<(), StoreError> {
        static FREE: LazyLock<Text> = LazyLock::new(|| {
            Text::new(
                "UPDATE jobs SET held_by = NULL, due_ms = 0 WHERE state = 'pending' AND held_by = ?",
            )
        });
        let freed = self.ask("free held jobs", &FREE, |free| free.bind(run)).await;
        self.unless_failed(freed).map(drop)
    }

    /// Claims those of `ids` that `run` still holds: some may have been cancelled or
    /// superseded since. `None` when none is left.
    ///
    /// # Errors
    /// [`StoreError::TakenOver`] when the run is no longer going on; when the queue file cannot
    /// be written or holds an impossible row.
    pub async fn claim_held(
        &mut self,
        run: RunId,
        status: Status,
        ids: &[JobId],
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        const DOING: &str = "claim held jobs";
        let ids = json(ids);
        let held =
            |held: Query<'static, _, _>| held.bind(ids.clone()).bind(run).bind(status.code());
        let told = self.ask(DOING, &HELD, held).await?;
        let row = told.rows.first().ok_or(sqlx::Error::RowNotFound).doing(DOING)?;
        let found = read_found(row.try_get(0).doing(DOING)?)?;
        if found.is_empty() {
            return Ok(None);
        }
        self.claim(run, status, found, slot_ms).await
    }

    /// Gives those of `ids` that `run` holds back to the pool.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn free_held(&mut self, run: RunId, ids: &[JobId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = json(ids);
        let freed = self.ask("free held jobs", &FREE_HELD, |free| free.bind(ids.clone()).bind(run));
        let freed = freed.await;
        self.unless_failed(freed).map(drop)
    }

    async fn find_free(
        &mut self,
        pool: &Pool,
        text: &Text,
        mut jobs_max: impl FnMut(Status, JobId) -> usize,
        slot_ms: i64,
    ) -> Result<Option<(Status, Vec<Found>)>, StoreError> {
        const DOING: &str = "look for a job";
        let most = Status::ALL.map(|status| jobs_max(status, 0));
        let told = self.ask(DOING, text, |free| {
            let free = free.bind(pool.app_id).bind(pool.approval).bind(slot_ms);
            most.iter().fold(free, |free, most| free.bind(i64::try_from(*most).unwrap_or(i64::MAX)))
        });
        let told = told.await?;
        let row = told.rows.first().ok_or(sqlx::Error::RowNotFound).doing(DOING)?;
        let mut found = read_found(row.try_get(1).doing(DOING)?)?;
        let Some(first) = found.first().map(|found| found.job.id) else { return Ok(None) };
        let status = row.try_get(0).doing(DOING)?;
        let status = Status::from_code(status).ok_or_else(|| StoreError::Impossible {
            table: "jobs",
            row: first,
            reason: format!("status {status}"),
        })?;
        found.truncate(jobs_max(status, first).max(1));
        Ok(Some((status, found)))
    }

    /// `pending → in_flight` for what was found, with the row of their request. A run that
    /// another one has taken for dead claims nothing.
    async fn claim(
        &mut self,
        run: RunId,
        status: Status,
        found: Vec<Found>,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        let claimed = self.write_claim(run, status, found, slot_ms).await;
        self.unless_failed(claimed).map(Some)
    }

    async fn write_claim(
        &mut self,
        run: RunId,
        status: Status,
        found: Vec<Found>,
        slot_ms: i64,
    ) -> Result<Claimed, StoreError> {
        const DOING: &str = "claim jobs";
        let counted = found.iter().map(|found| (found.job.id, found.batch, found.approval));
        let mut load = Load::new(status, counted);
        load.doubted = found.iter().any(|found| found.doubted);
        let told = self.ask(DOING, load.form(&CLAIM), |claim| {
            let claim = claim
                .bind(run)
                .bind(run)
                .bind(status.code())
                .bind(fold_ids(found.iter().map(|found| found.job.id)))
                .bind(i64::try_from(load.jobs).unwrap_or(i64::MAX))
                .bind(slot_ms);
            load.bind_shares(load.bind(claim))
        });
        let told = told.await?;
        // As many as statements in `CLAIM`.
        let &[of_the_run, _, moved, tallied] = &told.changes[..] else {
            return Err(sqlx::Error::RowNotFound).doing(DOING);
        };
        if of_the_run == 0 {
            return Err(StoreError::TakenOver { run });
        }
        check_moved(self.begun()?, &load, moved, tallied).await?;
        self.claimed = Some(told.inserted);
        let carried = Carried { request: told.inserted, load };
        let jobs = found.into_iter().map(|found| found.job).collect();
        Ok(Claimed { carried, jobs })
    }
}

impl Store {
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

    /// When the next free job that the run may send is due, in UTC milliseconds; `None` when no
    /// such job is pending.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn next_due_ms(&self, run: RunId) -> Result<Option<i64>, StoreError> {
        let pool = self.pool_of(run).await?;
        sqlx::query_scalar(AssertSqlSafe(pool.next_due))
            .bind(pool.app_id)
            .bind(pool.approval)
            .fetch_one(&self.readers)
            .await
            .doing("look for what is due")
    }
}

/// That [`DOUBT_OF_JOB`](super::doubts::DOUBT_OF_JOB) is for the job's own target status.
const IN_DOUBT_FOR_STATUS: i64 = 2;

/// A job to be claimed, and where it is counted.
struct Found {
    job: Job,
    /// Whether a request for its question has lost its response, whatever its target status.
    doubted: bool,
    batch: BatchId,
    /// 0: none.
    approval: i64,
}

/// Reads what [`FOUND`] asks for.
fn read_found(rows: &str) -> Result<Vec<Found>, StoreError> {
    let rows: Vec<(JobId, String, i64, BatchId, i64)> = serde_json::from_str(rows)
        .map_err(|e| sqlx::Error::Decode(e.into()))
        .doing("claim jobs")?;
    let read = |(id, question_id, doubt, batch, approval): (_, String, i64, _, _)| {
        let question_id = QuestionId::try_from(question_id).map_err(|reason| {
            let reason = format!("question_id: {reason}");
            StoreError::Impossible { table: "jobs", row: id, reason }
        })?;
        let job = Job { id, question_id, in_doubt: doubt == IN_DOUBT_FOR_STATUS };
        Ok(Found { job, doubted: doubt > 0, batch, approval })
    };
    rows.into_iter().map(read).collect()
}

/// Pending jobs that a run holds are free for any claim again.
static FREE_HELD: LazyLock<Text> = LazyLock::new(|| {
    Text::new(
        "UPDATE jobs SET held_by = NULL, due_ms = 0
         WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' AND held_by = ?",
    )
});

/// Those of some jobs that a run still holds.
static HELD: LazyLock<Text> = LazyLock::new(|| {
    Text::new(&format!(
        "SELECT {} jobs AS job WHERE id IN (SELECT value FROM json_each(?))
             AND state = 'pending' AND held_by = ? AND status = ? ORDER BY id LIMIT -1)",
        *FOUND
    ))
});

/// What a claim writes, in one go.
pub(super) static CLAIM: LazyLock<OfJobs> = LazyLock::new(|| {
    // No RETURNING on a table that others refer to: the engine would then look through
    // all of them for rows that wait for the new one.
    OfJobs::new(|these| {
        format!(
            "UPDATE runs SET requests = requests + 1 WHERE id = ? AND ending IS NULL;
             INSERT INTO requests (run_id, status, jobs, job_count, slot_ms) VALUES (?, ?, ?, ?, ?);
             UPDATE jobs SET state = 'in_flight', request_id = last_insert_rowid(), held_by = NULL
               WHERE state = 'pending' AND {these};
             UPDATE tallies SET pending = pending - jobs, in_flight = in_flight + jobs {SHARES}"
        )
    })
});
