//! Approvals of deletes, for tests with another subject.

use deskbatch::queue::{ApprovalId, BatchId, Covers, Lease, Queue, RunId};
use sqlx::Row as _;

use crate::support::queue::TestQueue;

/// Approves the pending deletes of the app, as the `run` command does before a run begins.
pub async fn approve_deletes(queue: &Queue, lease: &Lease, now_ms: i64) -> ApprovalId {
    let mut review = queue.begin_review(lease.app(), now_ms).await.unwrap();
    let approval = review.approve(lease, Covers::Deletes, &"0".repeat(64), "terms").await.unwrap();
    review.end_without_batch().await.unwrap();
    approval
}

/// Begins a run whose approval covers the pending deletes.
pub async fn begin_run(queue: &Queue, lease: &Lease, now_ms: i64) -> RunId {
    let approval = approve_deletes(queue, lease, now_ms).await;
    let run = queue.begin_run(lease, now_ms).await.unwrap();
    queue.bind_run(run, approval).await.unwrap();
    run
}

impl TestQueue {
    /// Extends the run's approval to a batch that was imported after the run began. No command can do
    /// that.
    pub async fn approve_batch(&self, batch: BatchId) {
        let rows = self.ask(&format!("SELECT approval_id FROM runs WHERE id = {}", self.run)).await;
        let approval: Option<i64> = rows.first().and_then(|row| row.get(0));
        if let Some(approval) = approval {
            let which = format!("batch_id = {batch} AND target_status = 6 AND state = 'pending'");
            self.sql(&format!("UPDATE jobs SET approval_id = {approval} WHERE {which}")).await;
        }
    }
}
