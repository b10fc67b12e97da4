//! Each operation of a run as a turn to write of its own, durable when it returns.

use deskbatch::domain::job::{JobId, Status};
use deskbatch::store::{
    Claimed, Conclusion, Conclusions, Done, RequestId, Return, RunId, Settlement, Store, StoreError,
};

/// See the head of this file.
#[allow(async_fn_in_trait, reason = "for tests alone")]
pub trait AtOnce {
    async fn claim_free(
        &self,
        run: RunId,
        jobs_max: impl FnMut(Status, JobId) -> usize,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError>;

    async fn claim_held(
        &self,
        run: RunId,
        status: Status,
        ids: &[JobId],
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError>;

    async fn free_held(&self, run: RunId, ids: &[JobId]) -> Result<(), StoreError>;

    async fn settle_succeeded(
        &self,
        settled: &Settlement,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError>;

    async fn settle_failed(
        &self,
        settled: &Settlement,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError>;

    async fn settle_returned(&self, settled: &Settlement, how: Return) -> Result<u64, StoreError>;

    async fn settle_refused(
        &self,
        settled: &Settlement,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, StoreError>;
}

/// A job that failed by a request that it was in with others.
pub fn inferred(job: JobId, request: RequestId) -> Conclusion {
    Conclusion { job, request, is_done: false, was_alone: false, in_doubt: false, rejections: 9 }
}

/// One operation, and its end.
macro_rules! turn {
    ($store:expr, $operation:ident($($with:expr),*)) => {{
        let mut turn = $store.turn();
        let done = turn.$operation($($with),*).await?;
        turn.commit().await?;
        Ok(done)
    }};
}

impl AtOnce for Store {
    async fn claim_free(
        &self,
        run: RunId,
        jobs_max: impl FnMut(Status, JobId) -> usize,
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        turn!(self, claim_free(run, jobs_max, slot_ms))
    }

    async fn claim_held(
        &self,
        run: RunId,
        status: Status,
        ids: &[JobId],
        slot_ms: i64,
    ) -> Result<Option<Claimed>, StoreError> {
        turn!(self, claim_held(run, status, ids, slot_ms))
    }

    async fn free_held(&self, run: RunId, ids: &[JobId]) -> Result<(), StoreError> {
        turn!(self, free_held(run, ids))
    }

    async fn settle_succeeded(
        &self,
        settled: &Settlement,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        turn!(self, settle_succeeded(settled, conclusions))
    }

    async fn settle_failed(
        &self,
        settled: &Settlement,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<Done, StoreError> {
        turn!(self, settle_failed(settled, in_doubt, conclusions))
    }

    async fn settle_returned(&self, settled: &Settlement, how: Return) -> Result<u64, StoreError> {
        turn!(self, settle_returned(settled, how))
    }

    async fn settle_refused(
        &self,
        settled: &Settlement,
        how: Return,
        conclusions: &Conclusions,
    ) -> Result<u64, StoreError> {
        turn!(self, settle_refused(settled, how, conclusions))
    }
}
