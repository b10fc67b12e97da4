//! Approvals: what would be sent, taken down in the transaction that decides about it, and
//! which jobs a run may send because somebody has read its plan.
//!
//! An approval marks its jobs. A bound on their numbers would not do: `retry` brings back
//! older jobs than those that were approved.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Doing as _, Import, RunId, RunLock, Store, StoreError, bulk};
use crate::job::{App, Status};
use crate::plan::{JobsSum, JobsSummer};

/// The number of an approval in its queue file.
pub type ApprovalId = i64;

/// What would be sent if an import were made durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// All of it.
    pub open: JobsSum,
    /// What of it was in the queue before.
    pub waiting: JobsSum,
    /// How many of all are in a request without a recorded answer.
    pub in_flight: u64,
    /// The first questions that would be deleted, in the order of their ids.
    pub deletes: Vec<String>,
}

/// An approval that was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its number.
    pub id: ApprovalId,
    /// What had to hold still for it.
    pub terms: String,
    /// Its jobs that are still to be done.
    pub left: u64,
    /// Its jobs that failed and speak for their questions still.
    pub failed: u64,
}

impl Store {
    /// Begins a look at the queue as it is, in one transaction with what follows from it.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn begin_review(&self, app: App, now_ms: i64) -> Result<Import, StoreError> {
        let mut import = self.begin_import(app, now_ms).await?;
        import.begin().await?;
        Ok(import)
    }

    /// The newest approval with this digest. What is left of it is asked before an import
    /// supersedes it.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn find_approval(
        &self,
        app: App,
        digest: &str,
    ) -> Result<Option<Approval>, StoreError> {
        const DOING: &str = "look for an approval";
        let row = sqlx::query(
            "SELECT id, terms,
                    (SELECT coalesce(sum(pending + in_flight), 0) FROM tallies WHERE approval_id = approvals.id),
                    (SELECT coalesce(sum(failed - overtaken), 0) FROM tallies WHERE approval_id = approvals.id)
             FROM approvals WHERE app_id = (SELECT id FROM apps WHERE sdkappid = ? AND library = ?) AND digest = ?
             ORDER BY id DESC LIMIT 1",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(digest)
        .fetch_optional(&self.readers)
        .await
        .doing(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let count = |at: usize| -> Result<u64, StoreError> {
            let n: i64 = row.try_get(at).doing(DOING)?;
            Ok(u64::try_from(n).unwrap_or_default())
        };
        Ok(Some(Approval {
            id: row.try_get(0).doing(DOING)?,
            terms: row.try_get(1).doing(DOING)?,
            left: count(2)?,
            failed: count(3)?,
        }))
    }

    /// Binds a run that has begun to the jobs of an approval.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn bind_run(&self, run: RunId, approval: ApprovalId) -> Result<(), StoreError> {
        let mut tx = self.write("bind a run to a plan").await?;
        sqlx::query("UPDATE runs SET approval_id = ? WHERE id = ?")
            .bind(approval)
            .bind(run)
            .execute(&mut *tx)
            .await
            .doing("bind a run to a plan")?;
        tx.commit().await.doing("bind a run to a plan")
    }

    /// Open jobs of `app`, or of an approval alone, whoever's jobs else are there.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_of(&self, app: App, approval: Option<ApprovalId>) -> Result<u64, StoreError> {
        let Some(approval) = approval else {
            return Ok(self.open_by_status(app).await?.iter().sum());
        };
        let open: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(pending + in_flight), 0) FROM tallies WHERE approval_id = ?",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .doing("count approved jobs")?;
        Ok(u64::try_from(open).unwrap_or_default())
    }

    /// How many jobs of an approval have been cancelled, and how many superseded.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn withdrawn_of(&self, approval: ApprovalId) -> Result<[u64; 2], StoreError> {
        let (cancelled, superseded): (i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(cancelled), 0), coalesce(sum(superseded), 0) FROM tallies WHERE approval_id = ?",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .doing("count approved jobs")?;
        Ok([cancelled, superseded].map(|jobs| u64::try_from(jobs).unwrap_or_default()))
    }

    /// Jobs of an approval that failed and speak for their questions still.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn failed_of(&self, approval: ApprovalId) -> Result<u64, StoreError> {
        let failed: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(failed - overtaken), 0) FROM tallies WHERE approval_id = ?",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .doing("count failed jobs")?;
        Ok(u64::try_from(failed).unwrap_or_default())
    }
}

impl Import {
    /// Takes down what would be sent, once all rows are in; the ids of at most
    /// `deletes_max` deletes with it. A job in flight that was overtaken is not sent again.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn survey(&mut self, deletes_max: usize) -> Result<Survey, StoreError> {
        let mut rows = sqlx::query(AssertSqlSafe(bulk::to_be_sent()))
            .bind(self.app_id)
            .fetch(&mut self.connection);
        let (mut open, mut waiting) = (JobsSummer::default(), JobsSummer::default());
        let (mut in_flight, mut deletes) = (0, Vec::new());
        while let Some(row) = rows.try_next().await.doing("look through the queue")? {
            let doing = "look through the queue";
            let (status, id): (i64, i64) =
                (row.try_get(0).doing(doing)?, row.try_get(3).doing(doing)?);
            let question: &str = row.try_get(1).doing(doing)?;
            let batch: i64 = row.try_get(2).doing(doing)?;
            let Some(status) = Status::from_code(status) else {
                let reason = format!("status {status}");
                return Err(StoreError::Impossible { table: "jobs", row: id, reason });
            };
            open.add(status, question);
            in_flight += u64::from(row.try_get::<bool, _>(4).doing(doing)?);
            if batch != self.batch {
                waiting.add(status, question);
            }
            if status == Status::Delete && deletes.len() < deletes_max {
                deletes.push(question.to_owned());
            }
        }
        Ok(Survey { open: open.finish(), waiting: waiting.finish(), in_flight, deletes })
    }

    /// The open jobs of the batch that the same manifest made before.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_of_known(&mut self) -> Result<u64, StoreError> {
        let open: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(pending + in_flight), 0) FROM tallies WHERE batch_id = ?",
        )
        .bind(self.known)
        .fetch_one(&mut self.connection)
        .await
        .doing("count jobs")?;
        Ok(u64::try_from(open).unwrap_or_default())
    }

    /// Notes an approval of everything that a survey has just taken down; durable when
    /// this import ends, whether or not it leaves a batch. Who has the run lock alone may: what
    /// is in flight then is of a run that died.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn approve(
        &mut self,
        _held: &RunLock,
        digest: &str,
        terms: &str,
    ) -> Result<ApprovalId, StoreError> {
        let noted = sqlx::query(
            "INSERT INTO approvals (app_id, digest, terms, created_ms) VALUES (?, ?, ?, ?)",
        )
        .bind(self.app_id)
        .bind(digest)
        .bind(terms)
        .bind(self.now_ms)
        .execute(&mut self.connection)
        .await
        .doing("note an approval")?;
        let approval = noted.last_insert_rowid();
        bulk::approve(&mut self.connection, self.app_id, approval).await?;
        self.approval = Some(approval);
        Ok(approval)
    }

    /// Takes back every row, so that the queue is as it was before.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn withdraw(&mut self) -> Result<(), StoreError> {
        sqlx::query("ROLLBACK TO before_rows")
            .execute(&mut self.connection)
            .await
            .doing("undo an import")?;
        (self.superseded, self.batch) = (0, 0);
        Ok(())
    }

    /// Ends an import that leaves no batch; an approval stays.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn end_without_batch(self) -> Result<(), StoreError> {
        match self.approval {
            Some(_) => self.end("COMMIT").await,
            None => self.undo().await,
        }
    }
}
