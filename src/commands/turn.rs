//! A run's turn at the queue: taken at once, or waited for as long as `--wait` says.

use std::time::Duration;

use super::CommandError;
use crate::clock::{Clock, Moment};
use crate::config::Settings;
use crate::output::Output;
use crate::runner::{Shutdown, Urgency};
use crate::store::{RunLock, Store, StoreError};

/// How often a lock that somebody else has is tried again. The system tells nobody when it
/// becomes free.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whoever looks who has the lock holds it for a moment, so one refusal is not believed.
const LOOKS_MIN: u32 = 3;

/// Takes the queue for a run, or says who has it.
///
/// # Errors
/// [`StoreError::Held`] when the wait, or the run's time, is over; [`StoreError::Stopped`] when
/// `shutdown` asks for it.
pub(super) async fn take<C: Clock>(
    settings: &Settings,
    store: &Store,
    clock: &C,
    deadline: Option<Moment>,
    mut shutdown: Shutdown,
    out: &Output,
) -> Result<RunLock, CommandError> {
    let wait = settings.wait();
    let patience = clock.now() + wait;
    let patience = deadline.map_or(patience, |deadline| patience.min(deadline));
    let mut looks = 0;
    loop {
        let holder = match RunLock::take(store.path(), clock.wall_ms()) {
            Err(StoreError::Held(holder)) => holder,
            taken => return Ok(taken?),
        };
        looks += 1;
        let now = clock.now();
        if looks >= LOOKS_MIN && now >= patience {
            return Err(StoreError::Held(holder).into());
        }
        if looks == LOOKS_MIN {
            out.say(&format!("another run has the queue ({holder}): waiting for it to end"));
        }
        tokio::select! {
            biased;
            () = shutdown.asked(Urgency::Finish) => return Err(StoreError::Stopped.into()),
            () = clock.sleep_until(now + LOOK_EVERY) => {}
        }
    }
}
