//! The round-trip time: how long responses take, how much that varies, and what a late response shows about
//! the arrival of its request.
//!
//! Pure numbers in seconds. It has no access to limits or slots.

use std::collections::VecDeque;

/// The number of round trips before the variance is used.
const SAMPLES_MIN: u32 = 20;
/// After this number of round trips an old one has about a third of its weight.
const MEMORY: u32 = 500;

/// An estimate from the round trips so far.
#[derive(Debug, Clone, Default)]
pub(super) struct RttEstimator {
    count: u32,
    mean_s: f64,
    variance: f64,
    /// The most recent ones, latest last.
    recent_s: VecDeque<f64>,
}

impl RttEstimator {
    const RECENT: usize = 50;

    pub(super) fn record(&mut self, trip_s: f64) {
        self.count = self.count.saturating_add(1);
        let share = 1.0 / f64::from(self.count.min(MEMORY));
        let mut off = trip_s - self.mean_s;
        if self.count > SAMPLES_MIN {
            // A response that was held up shows little about the others.
            let most = 4.0 * self.variance.sqrt() + 0.001;
            off = off.clamp(-most, most);
        }
        self.mean_s += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
        self.recent_s.push_back(trip_s);
        if self.recent_s.len() > Self::RECENT {
            self.recent_s.pop_front();
        }
    }

    /// The average; 0 before the first.
    pub(super) fn mean_s(&self) -> f64 {
        self.mean_s
    }

    /// The longest of the most recent ones; 0 before the first.
    pub(super) fn recent_max_s(&self) -> f64 {
        self.recent_s.iter().copied().reduce(f64::max).unwrap_or(0.0)
    }

    /// The largest possible arrival jitter: the uplink time varies no more than the round trip.
    pub(super) fn jitter_max_s(&self) -> f64 {
        if self.count < SAMPLES_MIN {
            return f64::INFINITY;
        }
        let doubt = 6.0 / f64::from(self.count.min(MEMORY)).sqrt();
        (self.variance.sqrt() * (1.1 + doubt)).max(0.001)
    }

    /// How much longer than the mean a round trip took, limited to three standard deviations.
    pub(super) fn lateness_s(&self, trip_s: f64) -> f64 {
        let most = 3.0 * self.variance.sqrt();
        (trip_s - self.mean_s).clamp(-most, most)
    }

    /// The share of the uplink in the variance, 0 to 1, if its jitter is `jitter_s`.
    pub(super) fn outbound_share(&self, jitter_s: f64) -> f64 {
        if self.count < SAMPLES_MIN {
            return 0.0;
        }
        (jitter_s * jitter_s / self.variance.max(1e-9)).min(1.0)
    }
}
