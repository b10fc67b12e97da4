//! What a run writes: its beginning and end, its waits, and what it has learned.

use crate::domain::job::App;
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::queue::{ApprovalId, Queue, QueueError, RunEnding, RunId, Wait, WriteTransaction};

impl Queue {
    /// Binds a run that has begun to the approval of its jobs.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn bind_run(&self, run: RunId, approval: ApprovalId) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.bind_run(run, approval).await,
        }
    }

    /// Ends a run and releases the jobs it reserved; their due times stay.
    ///
    /// # Errors
    /// [`QueueError::TakenOver`] when the run has already ended, or when the queue file cannot be
    /// written.
    pub async fn end_run(
        &self,
        run: RunId,
        ending: RunEnding,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.end_run(run, ending, now_ms).await,
        }
    }

    /// Makes free jobs of `app` that are due after `now_ms` due at once. The caller has measured that
    /// their waits are over, whatever the wall clock says.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn clear_waits(&self, app: App, now_ms: i64) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.clear_waits(app, now_ms).await,
        }
    }

    /// Records the wait of `run`; `None` ends it.
    ///
    /// # Errors
    /// [`QueueError::TakenOver`] when the run has been ended, or when the queue file cannot be
    /// written.
    pub async fn set_wait(&self, run: RunId, wait: Option<Wait>) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.set_wait(run, wait).await,
        }
    }

    /// The due time of the next free job that the run may send, in UTC milliseconds; `None` if there is
    /// no such job.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn next_due_ms(&self, run: RunId) -> Result<Option<i64>, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.next_due_ms(run).await,
        }
    }

    /// Whether `run` has reserved any pending job.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn has_reserved_jobs(&self, run: RunId) -> Result<bool, QueueError> {
        match self {
            Self::Sqlite(queue) => queue.has_reserved_jobs(run).await,
        }
    }

    /// Creates a transaction that begins with its first statement.
    pub fn begin_transaction(&self) -> WriteTransaction {
        match self {
            Self::Sqlite(queue) => WriteTransaction::Sqlite(queue.begin_transaction()),
        }
    }

    /// Records the learned rate of `app`, replacing the previous one.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn save_learned_rate(
        &self,
        app: App,
        learned: &LearnedRate,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.save_learned_rate(app, learned, now_ms).await,
        }
    }

    /// Records the learned chunk size of `app`, replacing the previous one.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn save_learned_chunk_size(
        &self,
        app: App,
        limit: LearnedChunkSize,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.save_learned_chunk_size(app, limit, now_ms).await,
        }
    }

    /// Records the endpoint of `app` for all later requests.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn set_endpoint(&self, app: App, endpoint: &str) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.set_endpoint(app, endpoint).await,
        }
    }

    /// Restores the endpoint `earlier` if `run` has reached nothing at its endpoint: then no recorded
    /// outcome depends on that endpoint.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn restore_endpoint(
        &self,
        app: App,
        run: RunId,
        earlier: Option<&str>,
    ) -> Result<(), QueueError> {
        match self {
            Self::Sqlite(queue) => queue.restore_endpoint(app, run, earlier).await,
        }
    }
}
