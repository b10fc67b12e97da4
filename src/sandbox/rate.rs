//! The frequency limit, as the service may count it, and the largest number of calls in any second.
//!
//! Pure: time is an argument and must not go backwards. It must receive every call, even one that is rejected
//! before the limit applies, because tests compare the largest second with the rate limit that the client
//! keeps.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::call::Command;
use super::settings::{SandboxSettings, Window};
use crate::domain::clock::Moment;

const SECOND: Duration = Duration::from_secs(1);

/// The most counters kept at once. Above it, counters that were idle for a second are dropped.
const COUNTERS_MAX: usize = 1_024;

/// What the limit applies to: an app and a command.
pub(super) type Counted = (u64, Command);

/// Counts calls by app and command.
#[derive(Debug, Default)]
pub(super) struct Frequency {
    limit: usize,
    window: Window,
    count_throttled: bool,
    calls: HashMap<Counted, Calls>,
    /// The most calls that arrived in any sliding second, for one app and command.
    pub(super) largest_second: usize,
    /// The most calls within the limit in any sliding second, for one app and command.
    pub(super) largest_second_accepted: usize,
}

/// The calls of about the last second, oldest first.
#[derive(Debug, Default)]
struct Calls {
    arrived: VecDeque<Moment>,
    accepted: VecDeque<Moment>,
    /// The calls that count towards the limit.
    limited: VecDeque<Moment>,
}

impl Frequency {
    pub(super) fn new(settings: &SandboxSettings) -> Self {
        Self {
            limit: settings.rate_limit,
            window: settings.window,
            count_throttled: settings.count_throttled,
            ..Self::default()
        }
    }

    /// Records the arrival of a call, whatever its result.
    pub(super) fn arrive(&mut self, by: Counted, now: Moment) {
        if self.calls.len() >= COUNTERS_MAX && !self.calls.contains_key(&by) {
            self.calls.retain(|_, calls| {
                calls.arrived.back().is_some_and(|last| now.since(*last) < SECOND)
            });
        }
        let arrived = &mut self.calls.entry(by).or_default().arrived;
        forget(arrived, |call| now.since(call) >= SECOND);
        arrived.push_back(now);
        self.largest_second = self.largest_second.max(arrived.len());
    }

    /// Counts a call towards the limit. Returns whether the call is within the limit.
    pub(super) fn admit(&mut self, by: Counted, now: Moment) -> bool {
        let calls = self.calls.entry(by).or_default();
        match self.window {
            Window::Sliding => forget(&mut calls.limited, |call| now.since(call) >= SECOND),
            Window::Fixed => {
                forget(&mut calls.limited, |call| call.0.as_secs() != now.0.as_secs());
            }
        }
        let within = self.limit == 0 || calls.limited.len() < self.limit;
        if within || self.count_throttled {
            calls.limited.push_back(now);
        }
        if within {
            forget(&mut calls.accepted, |call| now.since(call) >= SECOND);
            calls.accepted.push_back(now);
            self.largest_second_accepted = self.largest_second_accepted.max(calls.accepted.len());
        }
        within
    }
}

/// Drops the oldest calls while `over` is true for them.
fn forget(calls: &mut VecDeque<Moment>, over: impl Fn(Moment) -> bool) {
    while calls.front().is_some_and(|oldest| over(*oldest)) {
        calls.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Counted = (1, Command::BatchSetChitchat);

    /// The results for calls at these milliseconds: `+` within the limit, `-` above it.
    fn verdicts(settings: &SandboxSettings, at_ms: &[u64]) -> String {
        let mut frequency = Frequency::new(settings);
        let mut verdict = |ms: &u64| {
            let now = Moment(Duration::from_millis(*ms));
            frequency.arrive(ONE, now);
            if frequency.admit(ONE, now) { '+' } else { '-' }
        };
        at_ms.iter().map(&mut verdict).collect()
    }

    fn settings(window: Window, count_throttled: bool) -> SandboxSettings {
        SandboxSettings { window, count_throttled, ..SandboxSettings::default() }
    }

    #[test]
    fn sliding_window_counts_each_request_for_one_second() {
        let sliding = settings(Window::Sliding, false);
        assert_eq!(verdicts(&sliding, &[0, 1, 2, 3, 4, 5, 999, 1_000, 1_000]), "+++++--+-");
        assert_eq!(verdicts(&sliding, &[0, 200, 400, 600, 800, 1_000, 1_200]), "+++++++");
        assert_eq!(verdicts(&sliding, &[5, 200, 400, 600, 800, 1_000, 1_200]), "+++++-+");
    }

    #[test]
    fn fixed_window_passes_ten_requests_around_its_edge() {
        let fixed = settings(Window::Fixed, false);
        let edge = [995, 996, 997, 998, 999, 1_000, 1_001, 1_002, 1_003, 1_004, 1_999, 2_000];
        assert_eq!(verdicts(&fixed, &edge), "++++++++++-+");
    }

    #[test]
    fn counted_throttled_requests_keep_the_window_full() {
        let at = [0, 0, 0, 0, 0, 500, 999, 1_200, 1_400, 1_500, 2_000];
        assert_eq!(verdicts(&settings(Window::Sliding, true), &at), "+++++--++++");
        let hammering: Vec<u64> = (0..40).map(|call| call * 100).collect();
        let passed = |refused| {
            let story = verdicts(&settings(Window::Sliding, refused), &hammering);
            story.matches('+').count()
        };
        assert_eq!((passed(false), passed(true)), (20, 5));
    }

    #[test]
    fn zero_means_no_limit_and_other_limits_hold() {
        let none = SandboxSettings { rate_limit: 0, ..SandboxSettings::default() };
        assert_eq!(verdicts(&none, &[0; 7]), "+++++++");
        let two = SandboxSettings { rate_limit: 2, ..SandboxSettings::default() };
        assert_eq!(verdicts(&two, &[0; 4]), "++--");
    }

    #[test]
    fn rate_is_counted_per_app_and_command_with_its_peak() {
        let mut frequency = Frequency::new(&SandboxSettings::default());
        let mut call = |by, ms| {
            let now = Moment(Duration::from_millis(ms));
            frequency.arrive(by, now);
            frequency.admit(by, now)
        };
        for ms in 0..7 {
            assert_eq!(call(ONE, ms), ms < 5);
        }
        assert!(call((2, Command::BatchSetChitchat), 8));
        assert!(call((1, Command::BatchSetFaq), 9));
        assert!(call(ONE, 5_000));
        assert_eq!((frequency.largest_second, frequency.largest_second_accepted), (7, 5));
    }

    #[test]
    fn counters_of_many_apps_do_not_pile_up() {
        let mut frequency = Frequency::new(&SandboxSettings::default());
        for app in 0..10_000 {
            let now = Moment(Duration::from_secs(app));
            frequency.arrive((app, Command::BatchSetFaq), now);
        }
        assert!(frequency.calls.len() <= COUNTERS_MAX);
    }
}
