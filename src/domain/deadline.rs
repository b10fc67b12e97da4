//! A time limit that a stopped process does not use up.
//!
//! The monotonic clock continues while a process is stopped (Ctrl-Z, a paused container, a suspended
//! machine). When the process continues, the limit may be over although the awaited data has arrived and only
//! has to be read.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use super::clock::{Clock, Moment};

/// A timer that fires later than this shows that the process was stopped.
const LATE_MAX: Duration = Duration::from_millis(50);

/// How long a continued process may read data that arrived while it was stopped.
const GRACE: Duration = Duration::from_secs(1);

/// A limit for one future, or for several consecutive ones.
#[derive(Debug)]
pub struct Deadline {
    until: Moment,
}

impl Deadline {
    /// A limit that ends `limit` from now.
    pub fn after(clock: &impl Clock, limit: Duration) -> Self {
        Self { until: clock.now() + limit }
    }

    /// The output of `work`, or `None` if the limit ends first. If the timer fires late, `work` gets
    /// another second.
    pub async fn run<T>(&mut self, clock: &impl Clock, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            // The work is polled first: finished work counts, whatever the clock shows.
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = clock.sleep_until(self.until) => {}
            }
            let now = clock.now();
            if now.since(self.until) < LATE_MAX {
                return None;
            }
            self.until = now + GRACE;
        }
    }
}

/// The output of `work`, or `None` if `work` takes longer than `limit`; see [`Deadline::run`].
pub async fn within<T>(
    clock: &impl Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    Deadline::after(clock, limit).run(clock, work).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::clock::ManualClock;

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

    /// Advances the clock by a minute during which nothing runs; returns when the timer is set again.
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
