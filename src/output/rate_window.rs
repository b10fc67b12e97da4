//! The recent rate of requests.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::clock::Moment;

/// The length of the window, in seconds.
const WINDOW_S: u64 = 10;

/// Requests per second over the last seconds.
#[derive(Debug, Default)]
pub struct RateWindow {
    /// The number of requests at the first sample of each of the last seconds.
    samples: VecDeque<(Moment, u64)>,
}

impl RateWindow {
    /// Records that `requests` were sent up to `now`.
    pub fn note(&mut self, now: Moment, requests: u64) {
        let is_new =
            self.samples.back().is_none_or(|(at, _)| now.since(*at) >= Duration::from_secs(1));
        if is_new {
            self.samples.push_back((now, requests));
        }
        while self.samples.len() > 1
            && self.samples.front().is_some_and(|(at, _)| now.since(*at).as_secs() > WINDOW_S)
        {
            self.samples.pop_front();
        }
    }

    /// The mean rate over the window, if `requests` were sent up to `now`.
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn rate(&self, now: Moment, requests: u64) -> f64 {
        let Some((from, before)) = self.samples.front() else { return 0.0 };
        let seconds = now.since(*from).as_secs_f64().max(1.0);
        // The first request leaves at time 0, so the number of gaps is one less than the number of requests.
        let before = (*before).max(1);
        requests.saturating_sub(before) as f64 / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_the_mean_of_the_last_seconds() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut window = RateWindow::default();
        assert!(window.rate(at(0), 0).abs() < f64::EPSILON);
        for second in 0..=100 {
            window.note(at(second), second * 5);
        }
        assert!((window.rate(at(100), 500) - 5.0).abs() < 0.01);
        for second in 101..=120 {
            window.note(at(second), 500);
        }
        assert!(window.rate(at(120), 500).abs() < f64::EPSILON);
        assert!(window.samples.len() <= 12);
    }

    #[test]
    fn initial_rate_never_exceeds_the_limit() {
        let slot = |n| Moment(Duration::from_millis(n * 200));
        let mut window = RateWindow::default();
        window.note(slot(0), 0);
        for n in 0..=40 {
            window.note(slot(n), n + 1);
            assert!(window.rate(slot(n), n + 1) <= 5.0, "slot {n}");
        }
        assert!((window.rate(slot(40), 41) - 5.0).abs() < 0.01);
    }
}
