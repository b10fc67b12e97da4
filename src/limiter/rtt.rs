//! Round trips: how long answers take, and what that tells of the ways there.
//!
//! Pure numbers in seconds; knows nothing of limits or slots.

use std::collections::VecDeque;

/// So many round trips tell how much they vary.
const ENOUGH: u32 = 20;
/// How many round trips it takes for their mean to fade to about a third.
const MEMORY: u32 = 500;

/// Round trips: how long they take and how much that varies.
#[derive(Debug, Clone, Default)]
pub(super) struct Trips {
    count: u32,
    mean_s: f64,
    variance: f64,
    /// The last ones, newest last.
    lately_s: VecDeque<f64>,
}

impl Trips {
    const LATELY: usize = 50;

    /// Takes in one more.
    pub(super) fn add(&mut self, trip_s: f64) {
        self.count = self.count.saturating_add(1);
        let share = 1.0 / f64::from(self.count.min(MEMORY));
        let mut off = trip_s - self.mean_s;
        if self.count > ENOUGH {
            // One that hung says little of the others.
            let most = 4.0 * self.variance.sqrt() + 0.001;
            off = off.clamp(-most, most);
        }
        self.mean_s += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
        self.lately_s.push_back(trip_s);
        if self.lately_s.len() > Self::LATELY {
            self.lately_s.pop_front();
        }
    }

    /// How long one takes, on average; 0 before there was any.
    pub(super) fn mean_s(&self) -> f64 {
        self.mean_s
    }

    /// The longest one lately; 0 before there was any.
    pub(super) fn longest_s(&self) -> f64 {
        self.lately_s.iter().copied().reduce(f64::max).unwrap_or(0.0)
    }

    /// The way there varies no more than the way there and back.
    pub(super) fn spread_max_s(&self) -> f64 {
        if self.count < ENOUGH {
            return f64::INFINITY;
        }
        let doubt = 6.0 / f64::from(self.count.min(MEMORY)).sqrt();
        (self.variance.sqrt() * (1.1 + doubt)).max(0.001)
    }

    /// How much later than usual it was; within reason, as far as that is known.
    pub(super) fn lateness_s(&self, trip_s: f64) -> f64 {
        let most = 3.0 * self.variance.sqrt();
        (trip_s - self.mean_s).clamp(-most, most)
    }

    /// How much of what varies is the way there, 0 to 1, if that varies by `spread_s`.
    pub(super) fn share_of(&self, spread_s: f64) -> f64 {
        if self.count < ENOUGH {
            return 0.0;
        }
        (spread_s * spread_s / self.variance.max(1e-9)).min(1.0)
    }
}
