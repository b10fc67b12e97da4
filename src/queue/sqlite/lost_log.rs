//! A write-ahead log that is gone. What a run records is in the log first: without it the file looks
//! whole, and jobs that were sent look as if they never were.
//!
//! That a run began is in the file itself before its first request. So is, in its lock, the number
//! of its last request: a file that knows fewer has lost some. A copy has no lock beside it; if it
//! has no log either and a run is open in it, it was made in the middle of that run.

use std::sync::{PoisonError, Weak};

use sqlx::SqliteConnection;

use crate::queue::sqlite::doubts;
use crate::queue::sqlite::run_lock::{Before, Held, LastSent, RunLock, before_of, beside};
use crate::queue::{Context as _, Queue, QueueError, RequestId, RunId};
use crate::util::escape::path_text;

/// What is being done, for errors.
const CONTEXT: &str = "look whether its log was lost";

/// The run that sends, and the lock that names its last request.
#[derive(Debug)]
pub(in crate::queue) struct Sending {
    held: Weak<Held>,
    run: RunId,
    started_ms: i64,
}

impl Queue {
    /// Whether what a run has recorded is missing, since the log is. Asked beside a run it says no.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn has_lost_log(&self) -> Result<bool, QueueError> {
        let before = before_of(&self.path);
        let mut reader = self.readers.acquire().await.context(CONTEXT)?;
        is_lost(&mut reader, before, self.has_log).await
    }

    /// Takes what waits for the apps of a lost log for what may have been sent.
    pub(in crate::queue) async fn doubt_after_lost_log(
        &self,
        connection: &mut SqliteConnection,
        lock: &RunLock,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let Some(before) = lock.take_before(&self.path) else { return Ok(()) };
        if !is_lost(connection, before, self.has_log).await? {
            return Ok(());
        }
        let run = match before {
            Before::Sent(sent) => sent.run,
            Before::NoFile | Before::Nothing => 0,
        };
        let doubted = doubts::note_pending(connection, run, now_ms).await?;
        tracing::warn!(
            "{} of an earlier run was lost, and what that run recorded last with it: {} pending jobs may have been \
             sent and are in doubt",
            path_text(&beside(&self.path, "-wal")),
            doubted
        );
        Ok(())
    }

    /// From now on the lock names the last request that `run` has sent.
    pub(in crate::queue) fn begin_sending(&self, lock: &RunLock, run: RunId, started_ms: i64) {
        let sending = Sending { held: lock.held(), run, started_ms };
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
        self.note_sent(0);
    }

    /// Notes in the lock that `request` may leave, which is durable in the queue.
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
        // Of a run that the file does not know, the file is another one, or an older copy.
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
        Before::NoFile if !has_log => {
            let open =
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM runs WHERE ending IS NULL)");
            open.fetch_one(connection).await.context(CONTEXT)
        }
        Before::NoFile | Before::Nothing => Ok(false),
    }
}
