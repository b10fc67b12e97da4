//! The circuit breaker: it closes to every request after a push-back or in an outage, and a single probe
//! opens it again.
//!
//! Pure: takes events with their moments, returns readiness. A run begins with a probe, so that a wrong key
//! costs one request. A response to a request that was sent before the breaker closed does not open it,
//! because it does not show the state since then. Such a response only extends the wait, if it has a
//! `Retry-After`.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::limiter::retry::Backoff;

/// The first wait after a push-back: the service counts requests per second.
const THROTTLED_FIRST: Duration = Duration::from_secs(1);
const THROTTLED_LONGEST: Duration = Duration::from_secs(30);
const OUTAGE_FIRST: Duration = Duration::from_secs(1);
const OUTAGE_LONGEST: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is honoured. A service that asks for more is probed once a minute.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// This number of consecutive failures is an outage.
const OUTAGE_FAILURES: u32 = 3;

/// What a response shows about the service and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseSignal {
    /// The service evaluated the content of the request.
    Evaluated,
    /// A push-back.
    Throttled,
    /// A failure of the network or inside the service.
    Failed,
    /// None of these: the credentials were rejected.
    Neutral,
}

/// Why the breaker is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// After a push-back.
    Frequency,
    Outage,
}

/// When the next request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    Now,
    /// Not before this moment.
    At(Moment),
    /// Not before the response to the probe in flight.
    AfterResponse,
}

/// The state of the breaker when a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    epoch: u64,
    is_probe: bool,
}

/// The effect of a response on the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerChange {
    None,
    /// It closed, or stays closed for longer.
    Closed {
        reason: CloseReason,
        /// When a probe may be sent.
        until: Moment,
    },
    Opened,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Probing { in_flight: bool },
    Closed { until: Moment },
}

/// The state of the circuit breaker; its rules are at the head of this file.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// Increases each time the breaker closes.
    epoch: u64,
    throttled: Backoff,
    outage: Backoff,
    failures: u32,
    /// The time of the first of these failures.
    failing_since: Option<Moment>,
    random: fastrand::Rng,
}

impl Breaker {
    /// A breaker that waits for its first probe. `seed` decides the jitter of the back-off.
    pub fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Probing { in_flight: false },
            epoch: 0,
            throttled: Backoff::new(THROTTLED_FIRST, THROTTLED_LONGEST),
            outage: Backoff::new(OUTAGE_FIRST, OUTAGE_LONGEST),
            failures: 0,
            failing_since: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub fn ready(&self, now: Moment) -> Ready {
        match self.phase {
            Phase::Open | Phase::Probing { in_flight: false } => Ready::Now,
            Phase::Probing { in_flight: true } => Ready::AfterResponse,
            Phase::Closed { until } if now >= until => Ready::Now,
            Phase::Closed { until } => Ready::At(until),
        }
    }

    /// Records that a request is sent. Call it only after [`Breaker::ready`] returned [`Ready::Now`].
    pub fn on_send(&mut self) -> Permit {
        let is_probe = self.phase != Phase::Open;
        if is_probe {
            self.phase = Phase::Probing { in_flight: true };
        }
        Permit { epoch: self.epoch, is_probe }
    }

    /// Records a response at `now`; `retry_after` is the wait that it requests.
    pub fn on_response(
        &mut self,
        permit: Permit,
        signal: ResponseSignal,
        retry_after: Option<Duration>,
        now: Moment,
    ) -> BreakerChange {
        let asked = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
        // A service that pushes back is reachable, so there is no outage.
        if matches!(signal, ResponseSignal::Evaluated | ResponseSignal::Throttled) {
            self.failures = 0;
            self.failing_since = None;
        }
        if permit.epoch != self.epoch {
            return self.extend_wait(signal, asked, now);
        }
        match signal {
            ResponseSignal::Evaluated => {
                self.throttled.reset();
                self.outage.reset();
                let was = std::mem::replace(&mut self.phase, Phase::Open);
                if was == Phase::Open { BreakerChange::None } else { BreakerChange::Opened }
            }
            ResponseSignal::Throttled => {
                let wait =
                    self.throttled.next_wait(&mut self.random).max(asked.unwrap_or_default());
                self.close(CloseReason::Frequency, now + wait)
            }
            ResponseSignal::Failed => {
                self.failures += 1;
                self.failing_since.get_or_insert(now);
                // A service that requests a wait is not probed before its end.
                if self.failures >= OUTAGE_FAILURES || asked.is_some() {
                    let wait =
                        self.outage.next_wait(&mut self.random).max(asked.unwrap_or_default());
                    return self.close(CloseReason::Outage, now + wait);
                }
                self.probe_again(permit)
            }
            ResponseSignal::Neutral => self.probe_again(permit),
        }
    }

    /// Records a successful read, which uses no slot: there is no outage.
    pub fn end_outage(&mut self) {
        self.failures = 0;
        self.outage.reset();
        // If a push-back closed the breaker, there was no failure since.
        if self.failing_since.take().is_some() && matches!(self.phase, Phase::Closed { .. }) {
            self.phase = Phase::Probing { in_flight: false };
        }
    }

    /// The time of the first of the consecutive failures; `None` after any other response.
    pub fn failing_since(&self) -> Option<Moment> {
        self.failing_since
    }

    fn close(&mut self, reason: CloseReason, until: Moment) -> BreakerChange {
        self.epoch += 1;
        self.phase = Phase::Closed { until };
        BreakerChange::Closed { reason, until }
    }

    /// Handles a response to a request that was sent before the breaker closed. Only its `Retry-After` can
    /// extend the wait.
    fn extend_wait(
        &mut self,
        signal: ResponseSignal,
        asked: Option<Duration>,
        now: Moment,
    ) -> BreakerChange {
        let reason = match signal {
            ResponseSignal::Throttled => CloseReason::Frequency,
            ResponseSignal::Failed => CloseReason::Outage,
            ResponseSignal::Evaluated | ResponseSignal::Neutral => return BreakerChange::None,
        };
        match (&mut self.phase, asked) {
            (Phase::Closed { until }, Some(asked)) if now + asked > *until => {
                *until = now + asked;
                BreakerChange::Closed { reason, until: *until }
            }
            _ => BreakerChange::None,
        }
    }

    fn probe_again(&mut self, permit: Permit) -> BreakerChange {
        if permit.is_probe {
            self.phase = Phase::Probing { in_flight: false };
        }
        BreakerChange::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    /// A breaker whose first probe succeeded.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(1);
        let probe = breaker.on_send();
        assert_eq!(breaker.ready(at(0)), Ready::AfterResponse);
        assert_eq!(
            breaker.on_response(probe, ResponseSignal::Evaluated, None, at(0)),
            BreakerChange::Opened
        );
        breaker
    }

    fn closed_until(change: BreakerChange) -> Moment {
        match change {
            BreakerChange::Closed { until, .. } => until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn push_back_closes_breaker_and_one_probe_reopens_it() {
        let mut breaker = open();
        let rejected = breaker.on_send();
        let until =
            closed_until(breaker.on_response(rejected, ResponseSignal::Throttled, None, at(100)));
        assert!(until >= at(1_100) && until <= at(1_350), "{until:?}");
        assert_eq!(breaker.ready(at(1_099)), Ready::At(until));
        assert_eq!(breaker.ready(until), Ready::Now);
        let probe = breaker.on_send();
        assert_eq!(breaker.ready(until), Ready::AfterResponse);
        assert_eq!(
            breaker.on_response(probe, ResponseSignal::Evaluated, None, at(1_500)),
            BreakerChange::Opened
        );
        assert_eq!(breaker.ready(at(1_500)), Ready::Now);
    }

    #[test]
    fn throttled_probes_increase_the_back_off() {
        let mut breaker = open();
        let (mut now, mut last) = (at(0), Duration::ZERO);
        for _ in 0..5 {
            let permit = breaker.on_send();
            let until =
                closed_until(breaker.on_response(permit, ResponseSignal::Throttled, None, now));
            assert!(until.since(now) > last);
            last = until.since(now);
            now = until;
        }
    }

    #[test]
    fn breaker_ignores_responses_to_earlier_requests() {
        let mut breaker = open();
        let (first, second, third) = (breaker.on_send(), breaker.on_send(), breaker.on_send());
        let until =
            closed_until(breaker.on_response(first, ResponseSignal::Throttled, None, at(0)));
        assert_eq!(
            breaker.on_response(second, ResponseSignal::Throttled, None, at(50)),
            BreakerChange::None
        );
        assert_eq!(
            breaker.on_response(third, ResponseSignal::Evaluated, None, at(60)),
            BreakerChange::None
        );
        assert_eq!(breaker.ready(at(70)), Ready::At(until));
    }

    #[test]
    fn three_failures_start_outage_until_first_response() {
        let mut breaker = open();
        for ms in [10, 20] {
            let permit = breaker.on_send();
            assert_eq!(
                breaker.on_response(permit, ResponseSignal::Failed, None, at(ms)),
                BreakerChange::None
            );
        }
        let third = breaker.on_send();
        let change = breaker.on_response(third, ResponseSignal::Failed, None, at(30));
        assert!(matches!(change, BreakerChange::Closed { reason: CloseReason::Outage, .. }));
        assert_eq!(breaker.failing_since(), Some(at(10)));
        let probe = breaker.on_send();
        assert_eq!(
            breaker.on_response(probe, ResponseSignal::Evaluated, None, at(5_000)),
            BreakerChange::Opened
        );
        assert_eq!(breaker.failing_since(), None);
    }

    #[test]
    fn failed_probe_is_followed_by_another_probe() {
        let mut breaker = Breaker::new(1);
        let probe = breaker.on_send();
        assert_eq!(
            breaker.on_response(probe, ResponseSignal::Failed, None, at(10)),
            BreakerChange::None
        );
        assert_eq!(breaker.ready(at(10)), Ready::Now);
        let probe = breaker.on_send();
        assert_eq!(
            breaker.on_response(probe, ResponseSignal::Neutral, None, at(20)),
            BreakerChange::None
        );
        breaker.on_send();
        assert_eq!(breaker.ready(at(30)), Ready::AfterResponse);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_minute() {
        for signal in [ResponseSignal::Throttled, ResponseSignal::Failed] {
            for (asked_s, wait_s) in [(20, 20), (60, 60), (3_600, 60), (u64::MAX, 60)] {
                let mut breaker = open();
                let permit = breaker.on_send();
                let asked = Some(Duration::from_secs(asked_s));
                let until = closed_until(breaker.on_response(permit, signal, asked, at(5_000)));
                assert_eq!(until, at(5_000 + wait_s * 1_000), "{signal:?} {asked_s}");
            }
            // A `Retry-After` shorter than the back-off does not shorten the wait.
            let mut breaker = open();
            let permit = breaker.on_send();
            let until =
                closed_until(breaker.on_response(permit, signal, Some(Duration::ZERO), at(0)));
            assert!(until >= at(1_000), "{signal:?}: {until:?}");
        }
    }

    #[test]
    fn late_retry_after_extends_the_wait() {
        let mut breaker = open();
        let (first, second, third) = (breaker.on_send(), breaker.on_send(), breaker.on_send());
        breaker.on_response(first, ResponseSignal::Throttled, None, at(0));
        let asked = Some(Duration::from_secs(20));
        let until =
            closed_until(breaker.on_response(second, ResponseSignal::Failed, asked, at(50)));
        assert_eq!(until, at(20_050));
        let change = breaker.on_response(
            third,
            ResponseSignal::Failed,
            Some(Duration::from_secs(1)),
            at(60),
        );
        assert_eq!(change, BreakerChange::None);
        assert_eq!(breaker.ready(at(20_049)), Ready::At(until));
        assert_eq!(breaker.ready(until), Ready::Now);
    }
}
