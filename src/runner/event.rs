//! Events: what a run tells the world while it goes on.
//!
//! Terminal, dashboard and tests all listen to the same channel; nobody calls back into
//! the runner. A listener that falls behind loses events, never the run its pace.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::domain::job::Status;
use crate::domain::verdict::Verdict;
use crate::limiter::ClosedFor;
use crate::store::{RequestId, RunEnding, RunId};

/// How many events a slow listener may be behind before it loses the oldest.
const BEHIND_MAX: usize = 4_096;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run has the queue.
    Began {
        /// Its number.
        run: RunId,
        /// Jobs to do.
        open: u64,
        /// Jobs that a dead run had left in flight.
        orphans: u64,
    },
    /// A request leaves.
    Left {
        /// Its number.
        request: RequestId,
        /// The status that its jobs shall have.
        status: Status,
        /// How many jobs it carries.
        jobs: usize,
    },
    /// A request is settled; its row and its jobs are durable.
    Settled {
        /// Its number.
        request: RequestId,
        /// What its answer meant.
        verdict: Verdict,
        /// From leaving to the answer.
        latency: Duration,
        /// The run's figures after it.
        totals: Totals,
    },
    /// Jobs have got their outcome without a request: a read has shown that the app is alive,
    /// so that they were rejected for their questions.
    Concluded {
        /// The run's figures after it.
        totals: Totals,
    },
    /// The gate is closed for everyone.
    Closed {
        /// Why.
        why: ClosedFor,
        /// For how long at least.
        wait: Duration,
        /// Since when nothing gets through for this reason, in UTC milliseconds.
        since_ms: i64,
    },
    /// The gate is open again.
    Opened,
    /// No more requests will leave; those in flight are waited for.
    Stopping {
        /// How many those are.
        in_flight: usize,
    },
    /// The run is over.
    Ended {
        /// How.
        ending: RunEnding,
    },
}

/// What a run has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Requests that left.
    pub requests: u64,
    /// Of these, refused as too fast.
    pub throttled: u64,
    /// Of these, without a usable answer.
    pub transient: u64,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Of these, deletes found done when they were repeated after a response was lost.
    pub succeeded_in_doubt: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled or superseded while they were in flight.
    pub overtaken: u64,
}

impl Totals {
    /// Jobs that have their outcome.
    pub fn done(&self) -> u64 {
        self.succeeded + self.failed + self.overtaken
    }
}

/// Where events are sent.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Events {
    /// A channel without listeners.
    pub fn new() -> Self {
        Self(broadcast::channel(BEHIND_MAX).0)
    }

    /// Begins to listen; only events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    pub(super) fn send(&self, event: Event) {
        // No listener is no error: a run needs no audience.
        let _ = self.0.send(event);
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}
