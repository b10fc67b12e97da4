//! An import: one transaction, all of a manifest or nothing.

use crate::domain::job::{NewJob, QuestionId};
use crate::queue::sqlite::import::SqliteImport;
use crate::queue::{
    ApprovalId, CancellationToken, Covers, ImportTotals, Imported, Lease, Preview, QueueError,
    RowBatch, SameManifest, Survey, UnfinishedJobs,
};

/// An import that has begun; rolled back if dropped before its commit.
#[derive(Debug)]
pub enum Import {
    /// Into a queue file.
    Sqlite(SqliteImport),
}

impl Import {
    /// Lets `stop` cancel the import at any time; it then fails with [`QueueError::Stopped`].
    ///
    /// # Errors
    /// When the queue file fails.
    pub async fn cancel_with(&mut self, stop: &CancellationToken) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.cancel_with(stop).await,
        }
    }

    /// Adds a row. Each question may be added once; a later row for it goes to [`Import::replace_row`].
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn add_row(&mut self, job: NewJob) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.add_row(job).await,
        }
    }

    /// Adds several rows.
    ///
    /// # Errors
    /// When the rows cannot be stored.
    pub async fn add_rows(&mut self, group: RowBatch) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.add_rows(group).await,
        }
    }

    /// Replaces the row of the same question that was added before (`--on-conflict last`).
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn replace_row(&mut self, job: NewJob) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.replace_row(job).await,
        }
    }

    /// Removes the row of a question whose rows contradict each other.
    ///
    /// # Errors
    /// When the change cannot be stored.
    pub async fn remove_row(&mut self, question: &QuestionId) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.remove_row(question).await,
        }
    }

    /// Sets the test of whether the import has a row for a question. A large import then scans the jobs of
    /// the queue once, instead of looking for each question. Call it once all rows are added.
    pub fn set_membership_test(&mut self, has: impl Fn(&str) -> bool + Send + Sync + 'static) {
        match self {
            Self::Sqlite(import) => import.set_membership_test(has),
        }
    }

    /// Declares that the import will be rolled back after its preview, so that it builds no index.
    pub fn dry_run(&mut self) {
        match self {
            Self::Sqlite(import) => import.dry_run(),
        }
    }

    /// Applies the import in its open transaction, and returns the effect. The caller commits it or rolls it
    /// back.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn preview(
        &mut self,
        digest: &str,
        same: SameManifest,
    ) -> Result<Preview, QueueError> {
        match self {
            Self::Sqlite(import) => import.preview(digest, same).await,
        }
    }

    /// Surveys the jobs that a run would send, once the import has all its rows. Lists the ids of at
    /// most `deletes_max` deletes. A job in flight that was superseded or cancelled is not sent again,
    /// so the survey leaves it out.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn survey(&mut self, deletes_max: usize) -> Result<Survey, QueueError> {
        match self {
            Self::Sqlite(import) => import.survey(deletes_max).await,
        }
    }

    /// The number of open jobs in the earlier batch of the same manifest.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_jobs_of_known(&mut self) -> Result<u64, QueueError> {
        match self {
            Self::Sqlite(import) => import.open_jobs_of_known().await,
        }
    }

    /// The progress of the earlier batch of the same manifest.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn unfinished_of_known(&mut self) -> Result<UnfinishedJobs, QueueError> {
        match self {
            Self::Sqlite(import) => import.unfinished_of_known().await,
        }
    }

    /// The app's open jobs by status, in the order of `TargetStatus::ALL`, including those that will not be
    /// sent again.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn open_by_status(&mut self) -> Result<[u64; 3], QueueError> {
        match self {
            Self::Sqlite(import) => import.open_by_status().await,
        }
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
        lease: &Lease,
        covers: Covers,
        digest: &str,
        terms: &str,
    ) -> Result<ApprovalId, QueueError> {
        match self {
            Self::Sqlite(import) => import.approve(lease, covers, digest, terms).await,
        }
    }

    /// Rolls back all rows of the import, so that the queue is unchanged.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn rollback_rows(&mut self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.rollback_rows().await,
        }
    }

    /// Commits the batch, unless the preview has found that the same manifest is in the queue already.
    ///
    /// # Errors
    /// When the queue file cannot be written; the queue is unchanged then.
    pub async fn commit(self, totals: &ImportTotals) -> Result<Imported, QueueError> {
        match self {
            Self::Sqlite(import) => import.commit(totals).await,
        }
    }

    /// Ends an import without a batch; an approval is kept.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn end_without_batch(self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.end_without_batch().await,
        }
    }

    /// Rolls the import back, and lets other writers continue before this returns. Dropping an import does
    /// the same a little later.
    ///
    /// # Errors
    /// When the queue file fails.
    pub async fn rollback(self) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(import) => import.rollback().await,
        }
    }
}
