//! Each queue operation of a run in a transaction of its own, durable when it returns.

use deskbatch::domain::job::{JobId, TargetStatus};
use deskbatch::queue::{
    Claimed, Conclusion, Conclusions, Queue, QueueError, RequestId, RequestResult, RequeueOptions,
    RunId, SettleCounts,
};

/// The operations of a write transaction, each with its own commit.
#[allow(async_fn_in_trait, reason = "for tests alone")]
pub trait AutoCommit {
    async fn claim_free(
        &self,
        run: RunId,
        jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError>;

    async fn claim_reserved(
        &self,
        run: RunId,
        status: TargetStatus,
        ids: &[JobId],
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError>;

    async fn release(&self, run: RunId, ids: &[JobId]) -> Result<(), QueueError>;

    async fn settle_succeeded(
        &self,
        settled: &RequestResult,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError>;

    async fn settle_failed(
        &self,
        settled: &RequestResult,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError>;

    async fn requeue(
        &self,
        settled: &RequestResult,
        how: RequeueOptions,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError>;
}

/// A job that failed by the rejection of a request that carried other jobs too.
pub fn inferred(job: JobId, request: RequestId) -> Conclusion {
    Conclusion { job, request, is_done: false, was_alone: false, in_doubt: false, rejections: 9 }
}

/// Runs one operation and commits it.
macro_rules! commit {
    ($queue:expr, $operation:ident($($with:expr),*)) => {{
        let mut turn = $queue.begin_transaction();
        let done = turn.$operation($($with),*).await?;
        turn.commit().await?;
        Ok(done)
    }};
}

impl AutoCommit for Queue {
    async fn claim_free(
        &self,
        run: RunId,
        jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        commit!(self, claim_free(run, jobs_max, scheduled_ms))
    }

    async fn claim_reserved(
        &self,
        run: RunId,
        status: TargetStatus,
        ids: &[JobId],
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        commit!(self, claim_reserved(run, status, ids, scheduled_ms))
    }

    async fn release(&self, run: RunId, ids: &[JobId]) -> Result<(), QueueError> {
        commit!(self, release(run, ids))
    }

    async fn settle_succeeded(
        &self,
        settled: &RequestResult,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        commit!(self, settle_succeeded(settled, conclusions))
    }

    async fn settle_failed(
        &self,
        settled: &RequestResult,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        commit!(self, settle_failed(settled, in_doubt, conclusions))
    }

    async fn requeue(
        &self,
        settled: &RequestResult,
        how: RequeueOptions,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError> {
        commit!(self, requeue(settled, how, conclusions))
    }
}
