//! A run's turn: at the queue, and at the limit of its app on this host; each taken at once, or
//! waited for as long as `--wait` says.

use std::time::Duration;

use super::CommandError;
use crate::config::{Account, Settings};
use crate::domain::clock::{Clock, Moment};
use crate::output::Output;
use crate::runner::{Shutdown, ShutdownMode};
use crate::store::{AppLock, RunLock, Store, StoreError};

/// How often a lock that somebody else has is tried again. The system tells nobody when it
/// becomes free.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whoever looks who has the lock holds it for a moment, so one refusal is not believed.
const LOOKS_MIN: u32 = 3;

/// What a run holds from its beginning to its end.
pub(super) struct Turn {
    pub(super) lock: RunLock,
    /// `None` for a rehearsal, whose service counts for itself.
    _app: Option<AppLock>,
}

/// Takes the queue and the app for a run, or says who has them.
///
/// # Errors
/// [`StoreError::Held`] or [`StoreError::AppHeld`] when the wait, or the run's time, is over;
/// [`StoreError::Stopped`] when `shutdown` asks for it.
pub(super) async fn take<C: Clock>(
    settings: &Settings,
    account: &Account,
    store: &Store,
    clock: &C,
    deadline: Option<Moment>,
    shutdown: Shutdown,
    out: &Output,
) -> Result<Turn, CommandError> {
    let patience = clock.now() + settings.wait();
    let patience = deadline.map_or(patience, |deadline| patience.min(deadline));
    let mut waiting = Waiting { clock, patience, shutdown, out };
    let lock = waiting.until(|| RunLock::take(store.path(), clock.wall_ms())).await?;
    let app = match account.endpoint.as_ref().filter(|_| !settings.rehearsal) {
        Some(endpoint) => {
            let (app, endpoint) = (account.app, endpoint.to_string());
            let take = || AppLock::take(app, &endpoint, store.path(), clock.wall_ms());
            Some(waiting.until(take).await?)
        }
        None => None,
    };
    Ok(Turn { lock, _app: app })
}

struct Waiting<'a, C> {
    clock: &'a C,
    patience: Moment,
    shutdown: Shutdown,
    out: &'a Output,
}

impl<C: Clock> Waiting<'_, C> {
    /// Takes what `take` takes as soon as no other process has it.
    async fn until<T>(
        &mut self,
        take: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, CommandError> {
        let mut looks = 0;
        loop {
            let held = match take() {
                Err(held @ (StoreError::Held(_) | StoreError::AppHeld { .. })) => held,
                taken => return Ok(taken?),
            };
            looks += 1;
            let now = self.clock.now();
            if looks >= LOOKS_MIN && now >= self.patience {
                return Err(held.into());
            }
            if looks == LOOKS_MIN {
                self.out.say(&match held {
                    StoreError::AppHeld { queue, holder } => format!(
                        "another run sends for this application, from the queue {queue} ({holder}): waiting for it to end"
                    ),
                    StoreError::Held(holder) => {
                        format!("another run has the queue ({holder}): waiting for it to end")
                    }
                    other => other.to_string(),
                });
            }
            tokio::select! {
                biased;
                () = self.shutdown.requested(ShutdownMode::Graceful) => return Err(StoreError::Stopped.into()),
                () = self.clock.sleep_until(now + LOOK_EVERY) => {}
            }
        }
    }
}
