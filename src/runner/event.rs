//! Events: what a run reports to its listeners.
//!
//! Terminal, dashboard, metrics and tests listen to one channel; no listener calls back into the
//! runner. A listener that falls behind loses events. It never slows the run down.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::domain::job::TargetStatus;
use crate::domain::verdict::Verdict;
use crate::queue::WaitReason;
use crate::queue::{RequestId, RunEnding, RunId};

/// The number of events that a slow listener can be behind before it loses the oldest.
const BACKLOG_MAX: usize = 4_096;

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run has begun.
    Began {
        run: RunId,
        /// The jobs that it has to send.
        open: u64,
    },
    /// A request was sent.
    Sent {
        request: RequestId,
        /// The target status of its jobs.
        status: TargetStatus,
        /// The number of its jobs.
        jobs: usize,
    },
    /// A request is settled: its row and its jobs are durable.
    Settled {
        request: RequestId,
        /// The verdict of its response.
        verdict: Verdict,
        /// The time from sending to the response.
        latency: Duration,
        /// The totals of the run after it.
        totals: Totals,
    },
    /// Jobs got their outcome without a request of their own: a read showed that the app is alive, so the
    /// rejections concern their questions.
    Concluded {
        /// The totals of the run after it.
        totals: Totals,
    },
    /// The run sends nothing for a time.
    Waiting {
        reason: WaitReason,
        /// The minimum wait.
        wait: Duration,
        /// The time of the first failure for this reason, in UTC milliseconds.
        since_ms: i64,
    },
    /// The wait is over.
    Resumed,
    /// No more requests are sent; the run waits for the responses of those in flight.
    Stopping {
        /// The number of those requests.
        in_flight: usize,
    },
    /// The run has ended.
    Ended { ending: RunEnding },
}

/// The totals of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Requests that were sent.
    pub requests: u64,
    /// Requests that the service throttled.
    pub throttled: u64,
    /// Requests without a valid response.
    pub transient: u64,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Deletions that had been applied already when sent again after a lost response.
    pub succeeded_in_doubt: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled or superseded while they were in flight.
    pub withdrawn: u64,
}

impl Totals {
    /// Jobs that have their outcome.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.withdrawn
    }
}

/// The channel of a run's events.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Events {
    /// A channel without listeners.
    pub fn new() -> Self {
        Self(broadcast::channel(BACKLOG_MAX).0)
    }

    /// A new listener. It receives only events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    pub(super) fn send(&self, event: Event) {
        // An error means that no listener exists, which is allowed.
        let _ = self.0.send(event);
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}
