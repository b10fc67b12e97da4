//! Detects a lost write-ahead log. A run writes to the log first, so a file without its log looks
//! intact although jobs that were sent are pending in it.
//!
//! Two records outlive the log. The start of a run is in the file itself before its first request, and
//! the run's lock file has the number of its last request: a queue file that knows a smaller number has
//! lost its log. A copy has no lock file beside it. A copy without a log in which a run is open was
//! made during that run.

use std::sync::{PoisonError, Weak};

use sqlx::SqliteConnection;

use crate::queue::sqlite::run_lock::{Before, LastSent, LockFileText, RunLock, before_of, beside};
use crate::queue::sqlite::{SqliteQueue, doubts};
use crate::queue::{Context as _, QueueError, RequestId, RunId};
use crate::util::count::counted_as;
use crate::util::escape::path_text;

/// The operation, for errors.
const CONTEXT: &str = "check for a lost write-ahead log";

/// The run that sends requests, and the lock file that records its last request.
#[derive(Debug)]
pub(in crate::queue) struct Sending {
    held: Weak<LockFileText>,
    run: RunId,
    started_ms: i64,
}

impl SqliteQueue {
    pub(in crate::queue) async fn has_lost_log(&self) -> Result<bool, QueueError> {
        let before = before_of(&self.path);
        let mut reader = self.readers.acquire().await.context(CONTEXT)?;
        is_lost(&mut reader, before, self.has_log).await
    }

    /// Puts the pending jobs of the apps of a lost log in doubt: the lost log may say that they were
    /// sent. Returns whether the log was lost.
    pub(in crate::queue) async fn doubt_after_lost_log(
        &self,
        connection: &mut SqliteConnection,
        lock: &RunLock,
        now_ms: i64,
    ) -> Result<bool, QueueError> {
        let before = lock.before();
        if !is_lost(connection, before, self.has_log).await? {
            return Ok(false);
        }
        let run = match before {
            Before::Sent(sent) => sent.run,
            Before::NoFile | Before::Nothing => 0,
        };
        let doubted = doubts::note_pending(connection, run, now_ms).await?;
        tracing::warn!(
            "{} of an earlier run was lost, with the last records of that run. {} in doubt.",
            path_text(&beside(&self.path, "-wal")),
            counted_as(
                doubted,
                "pending job may have been sent and is",
                "pending jobs may have been sent and are"
            )
        );
        Ok(true)
    }

    /// Makes the file and the lock agree again, once the jobs are in doubt: no later run may find the same
    /// log lost once more.
    pub(in crate::queue) async fn accept_lost_log(&self, lock: &RunLock) -> Result<(), QueueError> {
        self.writer.checkpoint_wal(CONTEXT).await?;
        lock.forget_requests();
        Ok(())
    }

    /// From now on the lock file records the last request of `run`.
    pub(in crate::queue) fn begin_sending(&self, lock: &RunLock, run: RunId, started_ms: i64) {
        let sending = Sending { held: lock.held(), run, started_ms };
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
        self.note_sent(0);
    }

    /// Records in the lock file that `request` may leave. Call it once the request is durable in the
    /// queue.
    pub(in crate::queue) fn note_sent(&self, request: RequestId) {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Sending { held, run, started_ms }) = &*sending else { return };
        if let Some(held) = held.upgrade() {
            held.note(LastSent { run: *run, started_ms: *started_ms, request });
        }
    }
}

async fn is_lost(
    connection: &mut SqliteConnection,
    before: Before,
    has_log: bool,
) -> Result<bool, QueueError> {
    match before {
        // If the file does not know the run, it is another file or an older copy, and its log is not lost.
        Before::Sent(LastSent { run, started_ms, request }) => {
            let lost = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ? AND started_ms = ?)
                    AND coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'requests'), 0) < ?",
            );
            lost.bind(run)
                .bind(started_ms)
                .bind(request)
                .fetch_one(connection)
                .await
                .context(CONTEXT)
        }
        Before::NoFile | Before::Nothing if !has_log => {
            let open =
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM runs WHERE ending IS NULL)");
            open.fetch_one(connection).await.context(CONTEXT)
        }
        Before::NoFile | Before::Nothing => Ok(false),
    }
}
