//! The approvals, and the jobs that they cover.

use crate::domain::job::App;
use crate::queue::read::row_helpers::{difference, from_row, integer, sdkappid};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{Approval, ApprovalId, Context as _, OpenJobs, QueueError};

from_row!(Approval { id, terms, open = integer, failed = difference, uncovered = integer });

from_row!(OpenJobs { to_send = integer, unapproved = integer });

impl SqliteQueue {
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
        .bind(sdkappid(app))
        .bind(app.library.name())
        .bind(digest)
        .fetch_optional(&self.readers)
        .await
        .context("find the approval")
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
        .bind(sdkappid(app))
        .bind(app.library.name())
        .bind(approval)
        .fetch_one(&self.readers)
        .await
        .context("count the pending jobs")
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
