//! The breaker: closes the gate for everyone when the service says "too fast" or nothing
//! gets through, and lets a single probe open it again.
//!
//! Pure: events with their times in, readiness out. A run begins with a probe, so that a
//! wrong key costs one request. Answers to requests that left before the gate closed say
//! nothing about the time since, so they neither open it nor close it further.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::limiter::retry::Backoff;

/// The first wait after a frequency refusal: the limit is counted by the second.
const THROTTLED_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after frequency refusals.
const THROTTLED_LONGEST: Duration = Duration::from_secs(30);
/// The first wait in an outage.
const OUTAGE_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two probes of an outage.
const OUTAGE_LONGEST: Duration = Duration::from_secs(30);
/// The longest wait that the service may ask for: what asks for more is tried once a minute.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// Failures in a row, with nothing through between them, that make an outage.
const OUTAGE_FAILURES: u32 = 3;

/// What an answer says about the way to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The service looked at the request's content.
    Through,
    /// Refused for frequency.
    Throttled,
    /// Trouble on the way or inside the service.
    Failed,
    /// Neither: a matter of credentials.
    Neither,
}

/// Why the gate is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedFor {
    /// The service asked to slow down.
    Frequency,
    /// Nothing gets through.
    Outage,
}

/// Whether a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Yes.
    Now,
    /// Not before.
    At(Moment),
    /// Not before the probe under way is answered.
    AfterAnswer,
}

/// The state of the gate when a request left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    epoch: u64,
    probe: bool,
}

/// What an answer did to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is closed until then.
    Closed {
        /// Why.
        why: ClosedFor,
        /// When a probe may leave.
        until: Moment,
    },
    /// It is open again.
    Opened,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Probing { under_way: bool },
    Closed { until: Moment },
}

/// The state of the gate's door.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// Grows each time the gate closes.
    epoch: u64,
    throttled: Backoff,
    outage: Backoff,
    failures: u32,
    /// When the first of the failures in a row was seen.
    failing_since: Option<Moment>,
    random: fastrand::Rng,
}

impl Breaker {
    /// A door that waits for its first probe. `seed` decides the jitter of its waits.
    pub fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Probing { under_way: false },
            epoch: 0,
            throttled: Backoff::new(THROTTLED_FIRST, THROTTLED_LONGEST),
            outage: Backoff::new(OUTAGE_FIRST, OUTAGE_LONGEST),
            failures: 0,
            failing_since: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether a request may leave at `now`.
    pub fn ready(&self, now: Moment) -> Ready {
        match self.phase {
            Phase::Open | Phase::Probing { under_way: false } => Ready::Now,
            Phase::Probing { under_way: true } => Ready::AfterAnswer,
            Phase::Closed { until } if now >= until => Ready::Now,
            Phase::Closed { until } => Ready::At(until),
        }
    }

    /// Notes that a request leaves; only to be called when [`Breaker::ready`] says so.
    pub fn leave(&mut self) -> Pass {
        let probe = self.phase != Phase::Open;
        if probe {
            self.phase = Phase::Probing { under_way: true };
        }
        Pass { epoch: self.epoch, probe }
    }

    /// Takes in a response; `retry_after` is how long it asks to wait.
    pub fn answered(
        &mut self,
        pass: Pass,
        signal: Signal,
        retry_after: Option<Duration>,
        now: Moment,
    ) -> Change {
        let asked = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
        // To be told to slow down is to be answered: no outage.
        if matches!(signal, Signal::Through | Signal::Throttled) {
            self.failures = 0;
            self.failing_since = None;
        }
        if pass.epoch != self.epoch {
            return self.wait_longer(signal, asked, now);
        }
        match signal {
            Signal::Through => {
                self.throttled.reset();
                self.outage.reset();
                let was = std::mem::replace(&mut self.phase, Phase::Open);
                if was == Phase::Open { Change::None } else { Change::Opened }
            }
            Signal::Throttled => {
                let wait =
                    self.throttled.next_wait(&mut self.random).max(asked.unwrap_or_default());
                self.close(ClosedFor::Frequency, now + wait)
            }
            Signal::Failed => {
                self.failures += 1;
                self.failing_since.get_or_insert(now);
                // A service that says when to come again is not asked twice before.
                if self.failures >= OUTAGE_FAILURES || asked.is_some() {
                    let wait =
                        self.outage.next_wait(&mut self.random).max(asked.unwrap_or_default());
                    return self.close(ClosedFor::Outage, now + wait);
                }
                self.probe_again(pass)
            }
            Signal::Neither => self.probe_again(pass),
        }
    }

    /// Something got through that was no request of this gate: there is no outage.
    pub fn got_through(&mut self) {
        self.failures = 0;
        self.outage.reset();
        // A door that was closed for frequency has no failure since.
        if self.failing_since.take().is_some() && matches!(self.phase, Phase::Closed { .. }) {
            self.phase = Phase::Probing { under_way: false };
        }
    }

    /// Since when nothing has got through, if anything failed since the last that did.
    pub fn failing_since(&self) -> Option<Moment> {
        self.failing_since
    }

    fn close(&mut self, why: ClosedFor, until: Moment) -> Change {
        self.epoch += 1;
        self.phase = Phase::Closed { until };
        Change::Closed { why, until }
    }

    /// A response to a request that left before the door closed opens nothing; that it asks for a
    /// longer wait is heard.
    fn wait_longer(&mut self, signal: Signal, asked: Option<Duration>, now: Moment) -> Change {
        let why = match signal {
            Signal::Throttled => ClosedFor::Frequency,
            Signal::Failed => ClosedFor::Outage,
            Signal::Through | Signal::Neither => return Change::None,
        };
        match (&mut self.phase, asked) {
            (Phase::Closed { until }, Some(asked)) if now + asked > *until => {
                *until = now + asked;
                Change::Closed { why, until: *until }
            }
            _ => Change::None,
        }
    }

    fn probe_again(&mut self, pass: Pass) -> Change {
        if pass.probe {
            self.phase = Phase::Probing { under_way: false };
        }
        Change::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    /// A breaker whose first probe got through.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(1);
        let probe = breaker.leave();
        assert_eq!(breaker.ready(at(0)), Ready::AfterAnswer);
        assert_eq!(breaker.answered(probe, Signal::Through, None, at(0)), Change::Opened);
        breaker
    }

    fn closed_until(change: Change) -> Moment {
        match change {
            Change::Closed { until, .. } => until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frequency_refusal_closes_for_a_second_or_more_and_one_probe_reopens() {
        let mut breaker = open();
        let refused = breaker.leave();
        let until = closed_until(breaker.answered(refused, Signal::Throttled, None, at(100)));
        assert!(until >= at(1_100) && until <= at(1_350), "{until:?}");
        assert_eq!(breaker.ready(at(1_099)), Ready::At(until));
        assert_eq!(breaker.ready(until), Ready::Now);
        let probe = breaker.leave();
        assert_eq!(breaker.ready(until), Ready::AfterAnswer);
        assert_eq!(breaker.answered(probe, Signal::Through, None, at(1_500)), Change::Opened);
        assert_eq!(breaker.ready(at(1_500)), Ready::Now);
    }

    #[test]
    fn refused_probes_wait_longer_each_time() {
        let mut breaker = open();
        let (mut now, mut last) = (at(0), Duration::ZERO);
        for _ in 0..5 {
            let pass = breaker.leave();
            let until = closed_until(breaker.answered(pass, Signal::Throttled, None, now));
            assert!(until.since(now) > last);
            last = until.since(now);
            now = until;
        }
    }

    #[test]
    fn answers_to_requests_from_before_the_closing_change_nothing() {
        let mut breaker = open();
        let (first, second, third) = (breaker.leave(), breaker.leave(), breaker.leave());
        let until = closed_until(breaker.answered(first, Signal::Throttled, None, at(0)));
        assert_eq!(breaker.answered(second, Signal::Throttled, None, at(50)), Change::None);
        assert_eq!(breaker.answered(third, Signal::Through, None, at(60)), Change::None);
        assert_eq!(breaker.ready(at(70)), Ready::At(until));
    }

    #[test]
    fn three_failures_in_a_row_are_an_outage_that_ends_with_the_first_answer() {
        let mut breaker = open();
        for ms in [10, 20] {
            let pass = breaker.leave();
            assert_eq!(breaker.answered(pass, Signal::Failed, None, at(ms)), Change::None);
        }
        let third = breaker.leave();
        let change = breaker.answered(third, Signal::Failed, None, at(30));
        assert!(matches!(change, Change::Closed { why: ClosedFor::Outage, .. }));
        assert_eq!(breaker.failing_since(), Some(at(10)));
        let probe = breaker.leave();
        assert_eq!(breaker.answered(probe, Signal::Through, None, at(5_000)), Change::Opened);
        assert_eq!(breaker.failing_since(), None);
    }

    #[test]
    fn a_probe_that_fails_on_the_way_is_followed_by_another_probe() {
        let mut breaker = Breaker::new(1);
        let probe = breaker.leave();
        assert_eq!(breaker.answered(probe, Signal::Failed, None, at(10)), Change::None);
        assert_eq!(breaker.ready(at(10)), Ready::Now);
        let probe = breaker.leave();
        assert_eq!(breaker.answered(probe, Signal::Neither, None, at(20)), Change::None);
        breaker.leave();
        assert_eq!(breaker.ready(at(30)), Ready::AfterAnswer);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_minute() {
        for signal in [Signal::Throttled, Signal::Failed] {
            for (asked_s, wait_s) in [(20, 20), (60, 60), (3_600, 60), (u64::MAX, 60)] {
                let mut breaker = open();
                let pass = breaker.leave();
                let asked = Some(Duration::from_secs(asked_s));
                let until = closed_until(breaker.answered(pass, signal, asked, at(5_000)));
                assert_eq!(until, at(5_000 + wait_s * 1_000), "{signal:?} {asked_s}");
            }
            // One that is shorter than the back-off does not shorten it.
            let mut breaker = open();
            let pass = breaker.leave();
            let until = closed_until(breaker.answered(pass, signal, Some(Duration::ZERO), at(0)));
            assert!(until >= at(1_000), "{signal:?}: {until:?}");
        }
    }

    #[test]
    fn late_retry_after_extends_the_wait() {
        let mut breaker = open();
        let (first, second, third) = (breaker.leave(), breaker.leave(), breaker.leave());
        breaker.answered(first, Signal::Throttled, None, at(0));
        let asked = Some(Duration::from_secs(20));
        let until = closed_until(breaker.answered(second, Signal::Failed, asked, at(50)));
        assert_eq!(until, at(20_050));
        let change = breaker.answered(third, Signal::Failed, Some(Duration::from_secs(1)), at(60));
        assert_eq!(change, Change::None);
        assert_eq!(breaker.ready(at(20_049)), Ready::At(until));
        assert_eq!(breaker.ready(until), Ready::Now);
    }
}
