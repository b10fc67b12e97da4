//! The course of one run as far as its estimate needs it: what was seen, and how fast.

use std::time::Duration;

use super::{Eta, MARGIN, Observed, SendRate, forecast, real};

/// How many requests the limit counts for while few were seen.
const PRIOR_REQUESTS: f64 = 10.0;

/// What a run has come to; moments are times since it began.
#[derive(Debug, Clone)]
pub struct RunProgress {
    /// The limit, in requests a second.
    limit: f64,
    seen: Observed,
    /// Requests whose questions the service looked at.
    through: u64,
    latency: Duration,
    closings: u64,
    /// All closings that are over.
    closed: Duration,
    /// Since when the gate is closed, if it is.
    closed_since: Option<Duration>,
    /// When the last answer came.
    last: Duration,
}

impl RunProgress {
    /// A run that begins, for at most `limit` requests a second (above 0).
    pub fn new(limit: f64) -> Self {
        Self {
            limit,
            seen: Observed::default(),
            through: 0,
            latency: Duration::ZERO,
            closings: 0,
            closed: Duration::ZERO,
            closed_since: None,
            last: Duration::ZERO,
        }
    }

    /// An answer came, `latency` after its request left, and the run has `good` jobs that
    /// succeeded and `bad` ones that failed now. `through`: the service looked at the
    /// questions.
    pub fn answered(
        &mut self,
        at: Duration,
        latency: Duration,
        through: bool,
        good: u64,
        bad: u64,
    ) {
        self.last = at;
        self.latency = latency;
        self.through += u64::from(through);
        self.seen.note(good, bad, self.through);
    }

    /// The gate closed, or stays closed for longer.
    pub fn closed(&mut self, at: Duration) {
        if self.closed_since.is_none() {
            self.closed_since = Some(at);
            self.closings += 1;
        }
    }

    /// The gate opened. A run begins with a gate that is neither.
    pub fn opened(&mut self, at: Duration) {
        if let Some(since) = self.closed_since.take() {
            self.closed += at.saturating_sub(since);
            self.last = at;
        }
    }

    /// How fast requests left so far, counted while the gate was open.
    pub fn speed(&self) -> SendRate {
        let shut =
            self.closed_since.map_or(Duration::ZERO, |since| self.last.saturating_sub(since));
        let open = self.last.saturating_sub(self.closed + shut + self.latency).as_secs_f64();
        let own = self.limit / MARGIN;
        let rate = (real(self.through) + PRIOR_REQUESTS) / (open + PRIOR_REQUESTS / own);
        SendRate {
            rate: rate.min(self.limit),
            latency: self.latency,
            closings: self.closings,
            closed: self.closed + shut,
            requests: self.through,
        }
    }

    /// What `open` jobs by status take from now on, as [`forecast`] has it.
    pub fn forecast(&self, open: [u64; 3], chunk_jobs_max: usize) -> Eta {
        forecast(open, chunk_jobs_max, self.seen, self.speed())
    }
}
