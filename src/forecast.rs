//! How long the rest takes: the requests that are still needed, at the pace that the
//! service bears, as a range.
//!
//! Pure: what is left and what was seen so far come in, a range comes out. Counted in
//! requests and never in items, since the slots are what is scarce: a full chunk takes one,
//! a bad question several.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What the answers so far said of the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Jobs that succeeded.
    pub good: u64,
    /// Jobs that failed.
    pub bad: u64,
    /// Requests that it took, those refused as too fast not counted.
    pub requests: u64,
}

/// How fast requests leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Requests a second that reach the questions, above 0.
    pub rate: f64,
}

/// What is expected of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Requests still to be sent.
    pub requests: RangeInclusive<u64>,
    /// Until the last answer.
    pub time: RangeInclusive<Duration>,
}

/// What the rest takes: `open` jobs by status, in chunks of at most `chunk_jobs_max` (at
/// least 1).
pub fn forecast(open: [u64; 3], chunk_jobs_max: usize, seen: Seen, speed: Speed) -> Forecast {
    let chunk = chunk_jobs_max.max(1) as u64;
    let chunks: u64 = open.iter().map(|jobs| jobs.div_ceil(chunk)).sum();
    let bad = open.iter().sum::<u64>() * seen.bad / (seen.good + seen.bad).max(1);
    let requests = chunks..=chunks + 8 * bad;
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let time = |requests: u64| Duration::from_secs_f64(requests as f64 / speed.rate);
    let time = time(*requests.start())..=time(*requests.end());
    Forecast { requests, time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bad_ones_the_rest_takes_its_full_chunks() {
        let speed = Speed { rate: 5.0 };
        let all = forecast([250, 0, 1], 100, Seen::default(), speed);
        assert_eq!(all.requests, 4..=4);
        assert_eq!(all.time, Duration::from_millis(800)..=Duration::from_millis(800));
    }
}
