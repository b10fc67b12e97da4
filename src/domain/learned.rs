//! What a run has learned of the service's pace, as it is kept for the next one.

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Requests a second that leave while the gate is open.
    pub rate: f64,
    /// Around this rate calls were refused last, in requests a second; `None` if none was.
    pub refused_rate: Option<f64>,
    /// How unevenly calls reach the service: the standard deviation of the way there, in
    /// milliseconds.
    pub spread_ms: f64,
    /// How sure that is: the standard deviation of its natural logarithm.
    pub spread_doubt: f64,
    /// The chance that the service wants distance between any two calls, 0 to 1.
    pub spaced: f64,
}

impl Learned {
    /// Whether the figures can be what a run has learned; a file may hold anything.
    pub fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        positive(self.rate)
            && self.refused_rate.is_none_or(positive)
            && (0.01..=1_000.0).contains(&self.spread_ms)
            && (0.0..=10.0).contains(&self.spread_doubt)
            && (0.0..=1.0).contains(&self.spaced)
    }
}

/// What is known of the most jobs that the service takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit {
    /// So many have passed, or are the best guess.
    pub passed: usize,
    /// So many were too many; more than `passed`.
    pub too_many: usize,
}
