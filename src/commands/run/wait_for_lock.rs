//! Takes the locks of a run: the queue's, and the rate limit's of its app on this host. A lock that
//! another process holds is waited for as long as `--lock-timeout` says.

use std::time::Duration;

use super::context::{LockedQueue, RunContext};
use crate::commands::error::CommandError;
use crate::config::Account;
use crate::domain::clock::{Clock, Moment};
use crate::output::Output;
use crate::queue::{AppLock, Queue, QueueError};
use crate::runner::{Shutdown, ShutdownMode};

/// How often a held lock is tried again: the system sends no notice when it becomes free.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// A process that only reads who holds the lock takes it for a moment, so a lock counts as held
/// after this many failed attempts.
const ATTEMPTS_MIN: u32 = 3;

/// Takes the locks for a run of `account`, until `deadline` at the latest.
///
/// # Errors
/// [`QueueError::Locked`] or [`QueueError::AppLocked`] when the wait or the run's time is over;
/// [`QueueError::Stopped`] on shutdown.
pub(super) async fn wait_for_lock(
    ctx: &RunContext<'_>,
    account: &Account,
    queue: Queue,
    deadline: Option<Moment>,
) -> Result<LockedQueue, CommandError> {
    let RunContext { settings, clock, out, .. } = *ctx;
    let give_up_at = clock.now() + settings.lock_timeout();
    let give_up_at = deadline.map_or(give_up_at, |deadline| give_up_at.min(deadline));
    let mut waiting = LockWait { clock, give_up_at, deadline, shutdown: ctx.signals.run(), out };
    let lease = waiting.take(async || queue.acquire(account.app, clock.wall_ms()).await).await?;
    let app_lock = match account.endpoint.as_ref().filter(|_| !settings.is_sandbox_run) {
        Some(endpoint) => {
            let (app, endpoint) = (account.app, endpoint.to_string());
            let take = async || AppLock::take(app, &endpoint, queue.path(), clock.wall_ms());
            Some(waiting.take(take).await?)
        }
        None => None,
    };
    Ok(LockedQueue { queue, lease, _app_lock: app_lock })
}

struct LockWait<'a, C> {
    clock: &'a C,
    give_up_at: Moment,
    /// The end of the run's time.
    deadline: Option<Moment>,
    shutdown: Shutdown,
    out: &'a Output,
}

impl<C: Clock> LockWait<'_, C> {
    /// Calls `try_take` until no other process holds the lock.
    async fn take<T>(
        &mut self,
        try_take: impl AsyncFn() -> Result<T, QueueError>,
    ) -> Result<T, CommandError> {
        let mut attempts = 0;
        loop {
            // Acquiring the lease writes to the queue, and may wait for another writer.
            let clock = self.clock;
            let time_over = async {
                match self.deadline {
                    Some(deadline) => clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let taken = tokio::select! {
                biased;
                () = self.shutdown.requested(ShutdownMode::Graceful) => return Err(QueueError::Stopped.into()),
                taken = try_take() => taken,
                () = time_over => return Err(QueueError::Stopped.into()),
            };
            let held = match taken {
                Err(held @ (QueueError::Locked(_) | QueueError::AppLocked { .. })) => held,
                taken => return Ok(taken?),
            };
            attempts += 1;
            let now = self.clock.now();
            if attempts >= ATTEMPTS_MIN && now >= self.give_up_at {
                return Err(held.into());
            }
            if attempts == ATTEMPTS_MIN {
                self.out.info(&waiting_text(&held));
            }
            tokio::select! {
                biased;
                () = self.shutdown.requested(ShutdownMode::Graceful) => return Err(QueueError::Stopped.into()),
                () = self.clock.sleep_until(now + RETRY_EVERY) => {}
            }
        }
    }
}

fn waiting_text(held: &QueueError) -> String {
    match held {
        QueueError::AppLocked { queue, holder } => format!(
            "waiting for another run of this app to end: it uses the queue {queue} ({holder})"
        ),
        QueueError::Locked(holder) => {
            format!("waiting for another run to end: it holds the lock of this queue ({holder})")
        }
        other => other.to_string(),
    }
}
