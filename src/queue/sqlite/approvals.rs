//! Approvals: which jobs a run may send because its plan was approved.
//!
//! The survey of the jobs and the decision about them share one transaction. An approval marks each of
//! its jobs. A range of job ids would not do, since `retry` makes older jobs pending again. A retry
//! removes the mark, and a job of a later import never has it, so a run sends no delete that the plan
//! has not shown.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::job::{App, TargetStatus};
use crate::domain::plan_digest::{JobSetDigest, JobSetHasher};
use crate::queue::read::status::open_by_status;
use crate::queue::sqlite::approved_jobs;
use crate::queue::{Context as _, Import, Lease, Queue, QueueError, RunId};

/// Identifies an approval within its queue file.
pub type ApprovalId = i64;

/// The jobs of a run that an approval is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Covers {
    /// All jobs of a plan. A run with such an approval sends nothing else.
    Plan,
    /// The deletes. A run with such an approval also sends enables and disables, which need none.
    Deletes,
}

impl Covers {
    /// The word in the database.
    pub(in crate::queue) fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the approval is about jobs of `status`.
    pub(in crate::queue) fn is_about(self, status: TargetStatus) -> bool {
        self == Self::Plan || status == TargetStatus::Delete
    }
}

/// The open jobs of an app, for a run with a given approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenJobs {
    /// The jobs that the run sends.
    pub to_send: u64,
    /// The jobs that the run does not send, since its approval does not cover them.
    pub unapproved: u64,
}

/// The jobs that a run would send if the import were committed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// All of these jobs.
    pub open: JobSetDigest,
    /// The part of them that was in the queue before the import.
    pub waiting: JobSetDigest,
    /// How many of them are in a request without a recorded response.
    pub in_flight: u64,
    /// The first questions to be deleted, ordered by their ids.
    pub deletes: Vec<String>,
}

/// An approval that was given earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub id: ApprovalId,
    /// The conditions under which the approval was given.
    pub terms: String,
    /// Its open jobs.
    pub left: u64,
    /// Its failed jobs whose question no later import covers.
    pub failed: u64,
    /// Jobs that it no longer covers, since they were retried or approved again.
    pub uncovered: u64,
}

impl Queue {
    /// Begins a survey of the queue, in one transaction with the decision about it.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_review(&self, app: App, now_ms: i64) -> Result<Import, QueueError> {
        let mut import = self.begin_import(app, now_ms).await?;
        import.begin().await?;
        Ok(import)
    }

    /// The newest approval of the plan with this digest. Read it before an import, which may supersede
    /// its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn find_approval(
        &self,
        app: App,
        digest: &str,
    ) -> Result<Option<Approval>, QueueError> {
        const CONTEXT: &str = "look for an approval";
        let row = sqlx::query(
            "SELECT id, terms,
                    (SELECT coalesce(sum(jobs), 0) FROM job_counters
                     WHERE approval_id = approvals.id AND job_state IN ('pending', 'in_flight')),
                    (SELECT coalesce(sum(iif(job_state = 'failed', jobs, -jobs)), 0) FROM job_counters
                     WHERE approval_id = approvals.id AND job_state IN ('failed', 'failed_superseded')),
                    uncovered
             FROM approvals WHERE app_id = (SELECT id FROM apps WHERE sdkappid = ? AND library = ?) AND digest = ?
               AND covers = 'plan'
             ORDER BY id DESC LIMIT 1",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(digest)
        .fetch_optional(&self.readers)
        .await
        .context(CONTEXT)?;
        let Some(row) = row else { return Ok(None) };
        let count = |at: usize| -> Result<u64, QueueError> {
            let n: i64 = row.try_get(at).context(CONTEXT)?;
            Ok(u64::try_from(n).unwrap_or_default())
        };
        Ok(Some(Approval {
            id: row.try_get(0).context(CONTEXT)?,
            terms: row.try_get(1).context(CONTEXT)?,
            left: count(2)?,
            failed: count(3)?,
            uncovered: count(4)?,
        }))
    }

    /// Binds a run that has begun to the approval of its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn bind_run(&self, run: RunId, approval: ApprovalId) -> Result<(), QueueError> {
        const CONTEXT: &str = "bind a run to a plan";
        let mut tx = self.write(CONTEXT).await?;
        sqlx::query("UPDATE runs SET approval_id = ? WHERE id = ?")
            .bind(approval)
            .bind(run)
            .execute(&mut *tx)
            .await
            .context(CONTEXT)?;
        tx.commit().await.context(CONTEXT)?;
        self.forget_claim_scope();
        Ok(())
    }

    /// The open jobs of `app`, for a run with `approval`. A run without an approval sends no deletes.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_of(
        &self,
        app: App,
        approval: Option<ApprovalId>,
    ) -> Result<OpenJobs, QueueError> {
        const CONTEXT: &str = "count approved jobs";
        let (to_send, unapproved): (i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(jobs) FILTER (WHERE is_sent), 0), coalesce(sum(jobs) FILTER (WHERE NOT is_sent), 0)
             FROM (SELECT pending + in_flight AS jobs,
                          approval_id = coalesce(?3, -1)
                            OR (target_status <> 6 AND (SELECT covers FROM approvals WHERE id = ?3) IS NOT 'plan') AS is_sent
                   FROM job_counts WHERE batch_id IN (
                     SELECT id FROM batches
                     WHERE app_id = (SELECT id FROM apps WHERE sdkappid = ?1 AND library = ?2)))",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .context(CONTEXT)?;
        let [to_send, unapproved] =
            [to_send, unapproved].map(|jobs| u64::try_from(jobs).unwrap_or_default());
        Ok(OpenJobs { to_send, unapproved })
    }

    /// How many jobs the approval no longer covers, since they were retried or approved again.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn uncovered_of(&self, approval: ApprovalId) -> Result<u64, QueueError> {
        let uncovered: Option<i64> =
            sqlx::query_scalar("SELECT uncovered FROM approvals WHERE id = ?")
                .bind(approval)
                .fetch_optional(&self.readers)
                .await
                .context("count approved jobs")?;
        Ok(u64::try_from(uncovered.unwrap_or_default()).unwrap_or_default())
    }

    /// How many jobs of an approval are cancelled, and how many superseded.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn withdrawn_of(&self, approval: ApprovalId) -> Result<[u64; 2], QueueError> {
        let (cancelled, superseded): (i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0) FROM job_counts WHERE approval_id = ?",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .context("count approved jobs")?;
        Ok([cancelled, superseded].map(|jobs| u64::try_from(jobs).unwrap_or_default()))
    }

    /// The failed jobs of an approval whose question no later import covers.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn failed_of(&self, approval: ApprovalId) -> Result<u64, QueueError> {
        let failed: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(failed - failed_superseded), 0) FROM job_counts WHERE approval_id = ?",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .context("count failed jobs")?;
        Ok(u64::try_from(failed).unwrap_or_default())
    }
}

impl Import {
    /// Surveys the jobs that a run would send, once the import has all its rows. Lists the ids of at
    /// most `deletes_max` deletes. A job in flight that was superseded or cancelled is not sent again,
    /// so the survey leaves it out.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn survey(&mut self, deletes_max: usize) -> Result<Survey, QueueError> {
        let mut rows = sqlx::query(AssertSqlSafe(approved_jobs::survey()))
            .bind(self.app_id)
            .fetch(&mut self.connection);
        let (mut open, mut waiting) = (JobSetHasher::default(), JobSetHasher::default());
        let (mut in_flight, mut deletes) = (0, Vec::new());
        while let Some(row) = rows.try_next().await.context("look through the queue")? {
            let doing = "look through the queue";
            let (status, id): (i64, i64) =
                (row.try_get(0).context(doing)?, row.try_get(3).context(doing)?);
            let question: &str = row.try_get(1).context(doing)?;
            let batch: i64 = row.try_get(2).context(doing)?;
            let Some(status) = TargetStatus::from_code(status) else {
                let reason = format!("status {status}");
                return Err(QueueError::Impossible { table: "jobs", row: id, reason });
            };
            open.add(status, question);
            in_flight += u64::from(row.try_get::<bool, _>(4).context(doing)?);
            if batch != self.effect.batch {
                waiting.add(status, question);
            }
            if status == TargetStatus::Delete && deletes.len() < deletes_max {
                deletes.push(question.to_owned());
            }
        }
        Ok(Survey { open: open.finish(), waiting: waiting.finish(), in_flight, deletes })
    }

    /// The number of open jobs in the earlier batch of the same manifest.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_of_known(&mut self) -> Result<u64, QueueError> {
        let open: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(pending + in_flight), 0) FROM job_counts WHERE batch_id = ?",
        )
        .bind(self.effect.known)
        .fetch_one(&mut self.connection)
        .await
        .context("count jobs")?;
        Ok(u64::try_from(open).unwrap_or_default())
    }

    /// The app's open jobs by status, in the order of [`TargetStatus::ALL`], including those that will not be
    /// sent again.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_by_status(&mut self) -> Result<[u64; 3], QueueError> {
        open_by_status(&mut self.connection, self.app_id).await
    }

    /// Records an approval of the jobs of the last survey: of all of them, or of the deletes. It
    /// becomes durable at the end of this import, with or without a batch.
    ///
    /// Needs the lease, so that no run sends meanwhile.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn approve(
        &mut self,
        _lease: &Lease,
        covers: Covers,
        digest: &str,
        terms: &str,
    ) -> Result<ApprovalId, QueueError> {
        let noted = sqlx::query(
            "INSERT INTO approvals (app_id, covers, digest, terms, created_ms) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(self.app_id)
        .bind(covers.name())
        .bind(digest)
        .bind(terms)
        .bind(self.now_ms)
        .execute(&mut self.connection)
        .await
        .context("note an approval")?;
        let approval = noted.last_insert_rowid();
        approved_jobs::approve(&mut self.connection, self.app_id, covers, approval).await?;
        self.approval = Some(approval);
        Ok(approval)
    }

    /// Rolls back all rows of the import, so that the queue is unchanged.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn withdraw(&mut self) -> Result<(), QueueError> {
        sqlx::query("ROLLBACK TO before_rows")
            .execute(&mut self.connection)
            .await
            .context("undo an import")?;
        (self.effect.superseded, self.effect.batch) = (0, 0);
        Ok(())
    }

    /// Ends an import without a batch; an approval is kept.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn end_without_batch(self) -> Result<(), QueueError> {
        match self.approval {
            Some(_) => self.end("COMMIT").await,
            None => self.undo().await,
        }
    }
}
