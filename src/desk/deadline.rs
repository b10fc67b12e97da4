//! A limit of time that a stopped process does not use up.
//!
//! Relies on the monotonic clock, which goes on while a process is stopped (Ctrl-Z, a paused
//! container, a frozen machine): when the process is continued, the limit may be over although what
//! was waited for is here and only has to be read.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use crate::domain::clock::Clock;

/// A timer that fires later than this was not the only one that waited: the process was stopped.
const LATE_MAX: Duration = Duration::from_millis(50);

/// What a process that is continued gets to read what came meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// The outcome of `work`, or `None` when it is not there after `limit`. After a timer that fired
/// late, work that has not noticed yet gets [`GRACE`].
pub(super) async fn within<T>(
    clock: &impl Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let mut until = clock.now() + limit;
    loop {
        // The work first: what is done counts, whatever the clock says.
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = clock.sleep_until(until) => {}
        }
        let now = clock.now();
        if now.since(until) < LATE_MAX {
            return None;
        }
        until = now + GRACE;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::clock::{ManualClock, Moment};

    const LIMIT: Duration = Duration::from_secs(10);

    fn begin(clock: &ManualClock) -> (oneshot::Sender<u8>, tokio::task::JoinHandle<Option<u8>>) {
        let (respond, response) = oneshot::channel();
        let clock = clock.clone();
        let work = async move {
            match response.await {
                Ok(response) => response,
                Err(_) => pending().await,
            }
        };
        (respond, tokio::spawn(async move { within(&clock, LIMIT, work).await }))
    }

    #[tokio::test]
    async fn limit_is_kept_while_the_process_runs() {
        let clock = ManualClock::new(0);
        let (_respond, waiting) = begin(&clock);
        clock.advance_to_next_sleeper().await;
        assert_eq!(waiting.await.expect("joins"), None);
        assert_eq!(clock.now(), Moment(LIMIT));
    }

    /// A minute in which nothing runs; returns when the timer is set again.
    async fn stop_for_a_minute(clock: &ManualClock) {
        let minute = Duration::from_mins(1);
        clock.next_sleeper().await;
        clock.advance(minute);
        while clock.next_sleeper().await < Moment(minute) {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.next_sleeper().await, Moment(minute + GRACE));
    }

    #[tokio::test]
    async fn response_is_read_after_a_stop() {
        let clock = ManualClock::new(0);
        let (respond, waiting) = begin(&clock);
        stop_for_a_minute(&clock).await;
        respond.send(7).expect("is waited for");
        assert_eq!(waiting.await.expect("joins"), Some(7));
    }

    #[tokio::test]
    async fn silence_after_a_stop_ends_the_wait() {
        let clock = ManualClock::new(0);
        let (_respond, waiting) = begin(&clock);
        stop_for_a_minute(&clock).await;
        clock.advance_to_next_sleeper().await;
        assert_eq!(waiting.await.expect("joins"), None);
    }
}
