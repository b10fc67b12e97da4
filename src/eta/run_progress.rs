//! The progress of a run, as input of its ETA: the observations and the rate.

use std::time::Duration;

use super::{Eta, MARGIN, Observed, SendRate, estimate, real};

/// The prior: the limit, with the weight of this many requests.
const PRIOR_REQUESTS: f64 = 10.0;

/// The progress of a run; moments are times since its beginning.
#[derive(Debug, Clone)]
pub struct RunProgress {
    /// The rate limit, in requests a second.
    limit: f64,
    observed: Observed,
    /// Requests whose content the service evaluated.
    evaluated: u64,
    latency: Duration,
    closings: u64,
    /// The total time of all finished closings.
    closed: Duration,
    /// The time since which the rate limiter is closed, if it is closed.
    closed_since: Option<Duration>,
    /// The time of the last response.
    last: Duration,
}

impl RunProgress {
    /// The progress of a new run, for at most `limit` requests a second (above 0).
    pub fn new(limit: f64) -> Self {
        Self {
            limit,
            observed: Observed::default(),
            evaluated: 0,
            latency: Duration::ZERO,
            closings: 0,
            closed: Duration::ZERO,
            closed_since: None,
            last: Duration::ZERO,
        }
    }

    /// Records a response that came `latency` after its request was sent. `good` and `bad` are the succeeded
    /// and failed jobs of the run so far. `is_evaluated`: the service evaluated the content.
    pub fn on_response(
        &mut self,
        at: Duration,
        latency: Duration,
        is_evaluated: bool,
        good: u64,
        bad: u64,
    ) {
        self.last = at;
        self.latency = latency;
        self.evaluated += u64::from(is_evaluated);
        self.observed.record(good, bad, self.evaluated);
    }

    /// Records that the rate limiter closed, or stays closed for longer.
    pub fn on_closed(&mut self, at: Duration) {
        if self.closed_since.is_none() {
            self.closed_since = Some(at);
            self.closings += 1;
        }
    }

    /// Records that the rate limiter opened.
    pub fn on_opened(&mut self, at: Duration) {
        if let Some(since) = self.closed_since.take() {
            self.closed += at.saturating_sub(since);
            self.last = at;
        }
    }

    /// The rate so far, without the time for which the rate limiter was closed.
    pub fn send_rate(&self) -> SendRate {
        let shut =
            self.closed_since.map_or(Duration::ZERO, |since| self.last.saturating_sub(since));
        let open = self.last.saturating_sub(self.closed + shut + self.latency).as_secs_f64();
        let own = self.limit / MARGIN;
        let rate = (real(self.evaluated) + PRIOR_REQUESTS) / (open + PRIOR_REQUESTS / own);
        SendRate {
            rate: rate.min(self.limit),
            latency: self.latency,
            closings: self.closings,
            closed: self.closed + shut,
            requests: self.evaluated,
        }
    }

    /// The ETA of `open` jobs by target status; see [`estimate`].
    pub fn estimate(&self, open: [u64; 3], chunk_jobs_max: usize) -> Eta {
        estimate(open, chunk_jobs_max, self.observed, self.send_rate())
    }
}
