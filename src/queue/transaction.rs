//! The write transaction of a run. A response and the following claim can share one, since the commit
//! is most of the cost of a small transaction.

use crate::domain::conclusions::{Concluded, Conclusions};
use crate::domain::job::{JobId, TargetStatus};
use crate::queue::sqlite::transaction::SqliteTransaction;
use crate::queue::{Claimed, QueueError, RequestResult, RequeueOptions, RunId, SettleCounts};

/// A write transaction of a run; rolled back if dropped before its commit.
///
/// Emit events and send requests only after [`WriteTransaction::commit`]. The transaction begins with its
/// first statement, and its owner must not wait for another write before it ends. A failed statement
/// rolls the whole transaction back, with every response that was recorded in it.
#[derive(Debug)]
pub enum WriteTransaction {
    /// Of a queue file.
    Sqlite(SqliteTransaction),
}

impl WriteTransaction {
    /// Whether it has uncommitted changes.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Sqlite(transaction) => transaction.is_open(),
        }
    }

    /// Claims free jobs of one target status, the oldest due first. `None` if there is none.
    ///
    /// `jobs_max` has two uses. With job 0 it returns an upper limit for the status; 0 excludes the
    /// status. With the first job it returns the size of the chunk, and the claim takes at least one
    /// job.
    ///
    /// # Errors
    /// [`QueueError::TakenOver`] when another process has ended the run; when the queue file cannot be
    /// written or has an impossible row.
    pub async fn claim_free(
        &mut self,
        run: RunId,
        jobs_max: impl FnMut(TargetStatus, JobId) -> usize,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.claim_free(run, jobs_max, scheduled_ms).await,
        }
    }

    /// Claims one free job, the last due one: it is far from the jobs claimed before.
    ///
    /// # Errors
    /// As for [`WriteTransaction::claim_free`].
    pub async fn claim_last(
        &mut self,
        run: RunId,
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.claim_last(run, scheduled_ms).await,
        }
    }

    /// Claims those of `ids` that `run` still has reserved: some may have been cancelled or superseded
    /// since. `None` if there is none.
    ///
    /// # Errors
    /// As for [`WriteTransaction::claim_free`].
    pub async fn claim_reserved(
        &mut self,
        run: RunId,
        status: TargetStatus,
        ids: &[JobId],
        scheduled_ms: i64,
    ) -> Result<Option<Claimed>, QueueError> {
        match self {
            Self::Sqlite(transaction) => {
                transaction.claim_reserved(run, status, ids, scheduled_ms).await
            }
        }
    }

    /// Releases those of `ids` that `run` has reserved.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn release(&mut self, run: RunId, ids: &[JobId]) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.release(run, ids).await,
        }
    }

    /// Releases all jobs that `run` has reserved.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn release_all(&mut self, run: RunId) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.release_all(run).await,
        }
    }

    /// `in_flight → succeeded` for the jobs of the request. An `ErrorCode` is recorded with them only
    /// where it is part of the outcome: a delete in doubt whose repetition was rejected because the
    /// question no longer exists.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the queue file cannot be written.
    pub async fn settle_succeeded(
        &mut self,
        settled: &RequestResult,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.settle_succeeded(settled, conclusions).await,
        }
    }

    /// `in_flight → failed` for the jobs of the request, with its code and text. `in_doubt` if this
    /// request may have been applied although no response says so.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the queue file cannot be written.
    pub async fn settle_failed(
        &mut self,
        settled: &RequestResult,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<SettleCounts, QueueError> {
        match self {
            Self::Sqlite(transaction) => {
                transaction.settle_failed(settled, in_doubt, conclusions).await
            }
        }
    }

    /// `in_flight → pending` for the jobs of the request, with the conclusions about other jobs. Jobs that
    /// were superseded or cancelled meanwhile continue to that state. Returns how many did.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] when the request is not open, or when the queue file cannot be written.
    pub async fn requeue(
        &mut self,
        settled: &RequestResult,
        how: RequeueOptions,
        conclusions: &Conclusions,
    ) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.requeue(settled, how, conclusions).await,
        }
    }

    /// `pending → failed | succeeded` for jobs that `run` has reserved.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn conclude(
        &mut self,
        run: RunId,
        conclusions: &Conclusions,
        now_ms: i64,
    ) -> Result<Concluded, QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.conclude(run, conclusions, now_ms).await,
        }
    }

    /// Commits the changes since the last commit.
    ///
    /// # Errors
    /// When the queue file cannot be written; the changes are then rolled back.
    pub async fn commit(&mut self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
        }
    }
}
