//! Back-off: growing waits with jitter, up to a limit.
//!
//! Pure: the randomness is an argument. The growth comes from the `backoff` crate, which is unmaintained
//! (RUSTSEC-2025-0012). Only this file uses it, so that a replacement changes one file. The jitter of the
//! crate is off, because it has no seed and can shorten a wait; the jitter here only lengthens one.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// The most that jitter lengthens a wait: a quarter.
const JITTER_SHARE: f64 = 0.25;

/// A sequence of growing waits.
#[derive(Debug)]
pub struct Backoff {
    growth: ExponentialBackoff,
}

impl Backoff {
    /// Waits that begin at `first` and double up to `longest`, without jitter.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            growth: ExponentialBackoff {
                current_interval: first,
                initial_interval: first,
                max_interval: longest,
                multiplier: 2.0,
                randomization_factor: 0.0,
                max_elapsed_time: None,
                ..ExponentialBackoff::default()
            },
        }
    }

    /// The next wait, lengthened by jitter of up to a quarter.
    pub fn next_wait(&mut self, random: &mut fastrand::Rng) -> Duration {
        let longest = self.growth.max_interval;
        let plain = self.growth.next_backoff().unwrap_or(longest);
        plain.mul_f64(1.0 + JITTER_SHARE * random.f64())
    }

    pub fn reset(&mut self) {
        self.growth.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_limit_with_positive_jitter() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for plain in [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs) {
            let wait = backoff.next_wait(&mut random);
            assert!(wait >= plain && wait <= plain.mul_f64(1.25), "{wait:?} for {plain:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait(&mut random) < Duration::from_secs(2));
    }
}
