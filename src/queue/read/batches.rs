//! The batches, and their failed jobs.

use crate::domain::job::App;
use crate::queue::read::row_helpers::{difference, from_row, integer, sdkappid};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::connection::json;
use crate::queue::{BatchId, BatchSummary, Context as _, QueueError};

from_row!(BatchSummary { id, name, source, created_ms, jobs, unfinished, failed, cancelled });

impl SqliteQueue {
    pub(in crate::queue) async fn batches(&self) -> Result<Vec<BatchSummary>, QueueError> {
        sqlx::query_as(
            "SELECT id, name, source, created_ms, jobs, coalesce(unfinished, 0) AS unfinished, coalesce(failed, 0) AS failed,
                    coalesce(cancelled, 0) AS cancelled
             FROM batches
             LEFT JOIN (SELECT batch_id, CAST(sum(pending + in_flight) AS BIGINT) AS unfinished,
                               CAST(sum(failed) AS BIGINT) AS failed, CAST(sum(cancelled) AS BIGINT) AS cancelled
                        FROM job_counts GROUP BY batch_id) AS counts ON counts.batch_id = batches.id
             WHERE pruned_ms IS NULL ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await
        .context("list the batches")
    }

    pub(in crate::queue) async fn count_failed(
        &self,
        batches: &[BatchId],
        last: BatchId,
    ) -> Result<u64, QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(failed - failed_superseded), 0) AS BIGINT) AS failed FROM job_counts
             WHERE batch_id IN (SELECT value FROM json_each($1)) OR batch_id > $2",
        )
        .bind(json(batches))
        .bind(last)
        .fetch_one(&self.readers)
        .await
        .and_then(|row| difference(&row, "failed"))
        .context("count the failed jobs")
    }

    pub(in crate::queue) async fn failed_superseded(
        &self,
        batch: Option<BatchId>,
    ) -> Result<u64, QueueError> {
        sqlx::query(
            "SELECT CAST(coalesce(sum(failed_superseded), 0) AS BIGINT) AS failed FROM job_counts
             WHERE $1 IS NULL OR batch_id = $1",
        )
        .bind(batch)
        .fetch_one(&self.readers)
        .await
        .and_then(|row| integer(&row, "failed"))
        .context("count the failed jobs")
    }

    pub(in crate::queue) async fn last_batch(&self) -> Result<BatchId, QueueError> {
        sqlx::query_scalar("SELECT coalesce(max(id), 0) AS id FROM batches")
            .fetch_one(&self.readers)
            .await
            .context("find the newest batch")
    }

    pub(in crate::queue) async fn batch(
        &self,
        id: BatchId,
    ) -> Result<Option<BatchSummary>, QueueError> {
        sqlx::query_as(
            "SELECT id, name, source, created_ms, jobs,
                    (SELECT CAST(coalesce(sum(pending + in_flight), 0) AS BIGINT) FROM job_counts
                     WHERE batch_id = batches.id) AS unfinished,
                    (SELECT CAST(coalesce(sum(failed), 0) AS BIGINT) FROM job_counts WHERE batch_id = batches.id) AS failed,
                    (SELECT CAST(coalesce(sum(cancelled), 0) AS BIGINT) FROM job_counts
                     WHERE batch_id = batches.id) AS cancelled
             FROM batches WHERE pruned_ms IS NULL AND id = $1",
        )
        .bind(id)
        .fetch_optional(&self.readers)
        .await
        .context("find the batch")
    }

    pub(in crate::queue) async fn unfinished_batches(
        &self,
        app: App,
    ) -> Result<Vec<BatchId>, QueueError> {
        sqlx::query_scalar(
            "SELECT batches.id FROM batches JOIN apps ON apps.id = batches.app_id
             WHERE apps.sdkappid = $1 AND apps.library = $2 AND EXISTS (
                 SELECT 1 FROM job_counters AS open
                 WHERE open.batch_id = batches.id AND open.job_state IN ('pending', 'in_flight') AND open.jobs > 0)",
        )
        .bind(sdkappid(app))
        .bind(app.library.name())
        .fetch_all(&self.readers)
        .await
        .context("read the unfinished batches")
    }
}
