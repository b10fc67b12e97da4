//! Approvals: which jobs a run may send because its plan was approved.
//!
//! The survey of the jobs and the decision about them share one transaction. An approval marks each of
//! its jobs. A range of job ids would not do, since `retry` makes older jobs pending again. A retry
//! removes the mark, and a job of a later import never has it, so a run sends no delete that the plan
//! has not shown.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::job::{App, TargetStatus};
use crate::domain::plan_digest::JobSetHasher;
use crate::queue::read::row_helpers::integer;
use crate::queue::read::status::open_by_status;
use crate::queue::sqlite::import::SqliteImport;
use crate::queue::sqlite::{SqliteQueue, approved_jobs};
use crate::queue::{ApprovalId, BatchId, Context as _, Covers, Lease, QueueError, RunId, Survey};

impl SqliteQueue {
    pub(in crate::queue) async fn begin_review(
        &self,
        app: App,
        now_ms: i64,
    ) -> Result<SqliteImport, QueueError> {
        let mut import = self.begin_import(app, now_ms).await?;
        import.begin().await?;
        Ok(import)
    }

    pub(in crate::queue) async fn bind_run(
        &self,
        run: RunId,
        approval: ApprovalId,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "bind the run to its approval";
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
}

impl SqliteImport {
    pub(in crate::queue) async fn survey(
        &mut self,
        deletes_max: usize,
    ) -> Result<Survey, QueueError> {
        const CONTEXT: &str = "read the pending jobs";
        let mut rows = sqlx::query(AssertSqlSafe(approved_jobs::survey()))
            .bind(self.app_id)
            .fetch(&mut self.connection);
        let (mut open, mut pending) = (JobSetHasher::default(), JobSetHasher::default());
        let (mut in_doubt, mut deletes) = (0, Vec::new());
        while let Some(row) = rows.try_next().await.context(CONTEXT)? {
            let status: TargetStatus = row.try_get("target_status").context(CONTEXT)?;
            let question: &str = row.try_get("question_id").context(CONTEXT)?;
            let batch: BatchId = row.try_get("batch_id").context(CONTEXT)?;
            open.add(status, question);
            in_doubt += u64::from(row.try_get::<bool, _>("is_in_doubt").context(CONTEXT)?);
            if batch != self.effect.batch {
                pending.add(status, question);
            }
            if status == TargetStatus::Delete && deletes.len() < deletes_max {
                deletes.push(question.to_owned());
            }
        }
        Ok(Survey { open: open.finish(), pending: pending.finish(), in_doubt, deletes })
    }

    pub(in crate::queue) async fn open_jobs_of_known(&mut self) -> Result<u64, QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(pending + in_flight), 0) AS BIGINT) AS open FROM job_counts WHERE batch_id = $1",
        )
        .bind(self.effect.known)
        .fetch_one(&mut self.connection)
        .await
        .and_then(|row| integer(&row, "open"))
        .context("count the pending jobs")
    }

    pub(in crate::queue) async fn open_by_status(&mut self) -> Result<[u64; 3], QueueError> {
        open_by_status(&mut self.connection, self.app_id).await
    }

    pub(in crate::queue) async fn approve(
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
        .context("record an approval")?;
        let approval = noted.last_insert_rowid();
        approved_jobs::approve(&mut self.connection, self.app_id, covers, approval).await?;
        self.approval = Some(approval);
        Ok(approval)
    }

    pub(in crate::queue) async fn rollback_rows(&mut self) -> Result<(), QueueError> {
        sqlx::query("ROLLBACK TO before_rows")
            .execute(&mut self.connection)
            .await
            .context("roll back an import")?;
        (self.effect.superseded, self.effect.batch) = (0, 0);
        Ok(())
    }

    pub(in crate::queue) async fn end_without_batch(self) -> Result<(), QueueError> {
        match self.approval {
            Some(_) => self.end("COMMIT").await,
            None => self.rollback().await,
        }
    }
}
