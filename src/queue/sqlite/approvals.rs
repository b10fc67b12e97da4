//! Approvals: which jobs a run may send because its plan was approved.
//!
//! The survey of the jobs and the decision about them share one transaction. An approval marks each of
//! its jobs. A range of job ids would not do, since `retry` makes older jobs pending again. A retry
//! removes the mark, and a job of a later import never has it, so a run sends no delete that the plan
//! has not shown.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::job::{App, TargetStatus};
use crate::domain::plan_digest::JobSetHasher;
use crate::queue::read::row_helpers::{from_row, integer};
use crate::queue::read::status::open_by_status;
use crate::queue::sqlite::import::SqliteImport;
use crate::queue::sqlite::{SqliteQueue, approved_jobs};
use crate::queue::{
    Approval, ApprovalId, BatchId, Context as _, Covers, Lease, OpenJobs, QueueError, RunId, Survey,
};

from_row!(Approval { id, terms, open = integer, failed = difference, uncovered = integer });

/// Reads a difference of two counters. Below 0 it is 0: until `doctor` repairs them, they can disagree.
fn difference(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

from_row!(OpenJobs { to_send = integer, unapproved = integer });

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

    pub(in crate::queue) async fn find_approval(
        &self,
        app: App,
        digest: &str,
    ) -> Result<Option<Approval>, QueueError> {
        sqlx::query_as(
            "SELECT id, terms,
                    (SELECT CAST(coalesce(sum(jobs), 0) AS BIGINT) FROM job_counters
                     WHERE approval_id = approvals.id AND job_state IN ('pending', 'in_flight')) AS open,
                    (SELECT CAST(coalesce(sum(CASE job_state WHEN 'failed' THEN jobs ELSE -jobs END), 0) AS BIGINT)
                     FROM job_counters
                     WHERE approval_id = approvals.id AND job_state IN ('failed', 'failed_superseded')) AS failed,
                    uncovered
             FROM approvals WHERE app_id = (SELECT id FROM apps WHERE sdkappid = $1 AND library = $2) AND digest = $3
               AND covers = 'plan'
             ORDER BY id DESC LIMIT 1",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(digest)
        .fetch_optional(&self.readers)
        .await
        .context("find the approval")
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

    pub(in crate::queue) async fn open_jobs(
        &self,
        app: App,
        approval: Option<ApprovalId>,
    ) -> Result<OpenJobs, QueueError> {
        sqlx::query_as(
            "SELECT CAST(coalesce(sum(jobs) FILTER (WHERE is_sent), 0) AS BIGINT) AS to_send,
                    CAST(coalesce(sum(jobs) FILTER (WHERE NOT is_sent), 0) AS BIGINT) AS unapproved
             FROM (SELECT pending + in_flight AS jobs,
                          approval_id = coalesce($3, -1)
                            OR (target_status <> 6
                                AND coalesce((SELECT covers FROM approvals WHERE id = $3), '') <> 'plan') AS is_sent
                   FROM job_counts WHERE batch_id IN (
                     SELECT id FROM batches
                     WHERE app_id = (SELECT id FROM apps WHERE sdkappid = $1 AND library = $2))) AS open",
        )
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .context("count the open jobs")
    }

    pub(in crate::queue) async fn uncovered_by_approval(
        &self,
        approval: ApprovalId,
    ) -> Result<u64, QueueError> {
        sqlx::query("SELECT uncovered FROM approvals WHERE id = $1")
            .bind(approval)
            .fetch_optional(&self.readers)
            .await
            .and_then(|row| row.map_or(Ok(0), |row| integer(&row, "uncovered")))
            .context("read the approval")
    }

    pub(in crate::queue) async fn withdrawn_of_approval(
        &self,
        approval: ApprovalId,
    ) -> Result<[u64; 2], QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(cancelled), 0) AS BIGINT) AS cancelled,
                    CAST(coalesce(sum(superseded), 0) AS BIGINT) AS superseded
             FROM job_counts WHERE approval_id = $1",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .and_then(|row| Ok([integer(&row, "cancelled")?, integer(&row, "superseded")?]))
        .context("count the approved jobs")
    }

    pub(in crate::queue) async fn failed_of_approval(
        &self,
        approval: ApprovalId,
    ) -> Result<u64, QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(failed - failed_superseded), 0) AS BIGINT) AS failed FROM job_counts
             WHERE approval_id = $1",
        )
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .and_then(|row| difference(&row, "failed"))
        .context("count the failed jobs")
    }
}

impl SqliteImport {
    pub(in crate::queue) async fn survey(
        &mut self,
        deletes_max: usize,
    ) -> Result<Survey, QueueError> {
        const CONTEXT: &str = "survey the open jobs";
        let mut rows = sqlx::query(AssertSqlSafe(approved_jobs::survey()))
            .bind(self.app_id)
            .fetch(&mut self.connection);
        let (mut open, mut waiting) = (JobSetHasher::default(), JobSetHasher::default());
        let (mut in_doubt, mut deletes) = (0, Vec::new());
        while let Some(row) = rows.try_next().await.context(CONTEXT)? {
            let status: TargetStatus = row.try_get("target_status").context(CONTEXT)?;
            let question: &str = row.try_get("question_id").context(CONTEXT)?;
            let batch: BatchId = row.try_get("batch_id").context(CONTEXT)?;
            open.add(status, question);
            in_doubt += u64::from(row.try_get::<bool, _>("is_in_doubt").context(CONTEXT)?);
            if batch != self.effect.batch {
                waiting.add(status, question);
            }
            if status == TargetStatus::Delete && deletes.len() < deletes_max {
                deletes.push(question.to_owned());
            }
        }
        Ok(Survey { open: open.finish(), waiting: waiting.finish(), in_doubt, deletes })
    }

    pub(in crate::queue) async fn open_jobs_of_known(&mut self) -> Result<u64, QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(pending + in_flight), 0) AS BIGINT) AS open FROM job_counts WHERE batch_id = $1",
        )
        .bind(self.effect.known)
        .fetch_one(&mut self.connection)
        .await
        .and_then(|row| integer(&row, "open"))
        .context("count the open jobs")
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
            .context("roll an import back")?;
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
