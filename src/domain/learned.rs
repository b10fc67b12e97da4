//! The limits of the service that a run has learned. The next run of the same app starts with them.

/// The learned rate, and the estimate of the limit model behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnedRate {
    /// Requests a second while the rate limiter is open.
    pub rate: f64,
    /// The mean rate at the last push-backs, in requests a second; `None` without a push-back.
    pub throttled_rate: Option<f64>,
    /// The standard deviation of the time from sending a request to its being counted, in milliseconds.
    pub arrival_jitter_ms: f64,
    /// The standard deviation of the natural logarithm of that estimate.
    pub arrival_jitter_log_sd: f64,
    /// The probability that the service requires a least time between two requests, 0 to 1.
    pub min_spacing_probability: f64,
}

impl LearnedRate {
    /// Whether a run can have learned these values. A queue file can contain any values.
    pub fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        positive(self.rate)
            && self.throttled_rate.is_none_or(positive)
            && (0.01..=1_000.0).contains(&self.arrival_jitter_ms)
            && (0.0..=10.0).contains(&self.arrival_jitter_log_sd)
            && (0.0..=1.0).contains(&self.min_spacing_probability)
    }
}

/// The learned chunk size: how many jobs the service accepts in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedChunkSize {
    /// The largest accepted size, or the best guess.
    pub accepted: usize,
    /// The smallest size that was rejected for its size; more than `accepted`.
    pub rejected: usize,
}
