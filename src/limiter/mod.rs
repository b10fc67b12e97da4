//! The gate: the one place that says when the next request may leave.
//!
//! Three things have a say: the pace (how far apart), the breaker (whether at all) and,
//! under both, governor as the hard ceiling, whatever the other two believe. The gate is
//! asked and never waits itself, so the runner can listen to answers and signals meanwhile.
//! It relies on being told of every departure and every answer.

mod breaker;
mod limit_model;
mod pacer;
pub mod retry;
mod rtt;

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use breaker::{Breaker, Pass, Ready};
pub use breaker::{Change, ClosedFor, Signal};
use pacer::{Pace, PaceEvent, Told};

use crate::domain::clock::{Clock, Moment};
use crate::domain::learned::Learned;

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A request may leave now.
    Go,
    /// Not before.
    At(Moment),
    /// Not before an answer has come.
    AfterAnswer,
}

/// What a request carries through its life, for the gate to know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    call: u64,
    pass: Pass,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Gate<C: Clock> {
    ceiling: RateLimiter<NotKeyed, InMemoryState, CeilingClock<C>, NoOpMiddleware<Duration>>,
    pace: Pace,
    breaker: Breaker,
    /// The ceiling has let a request through that has not left yet.
    let_through: bool,
    /// How many requests have left.
    calls: u64,
    rate: f64,
}

impl<C: Clock> Gate<C> {
    /// A gate for at most `rate` requests a second (above zero), on `clock`. `seed` decides
    /// the jitter of its waits.
    pub fn new(rate: f64, clock: C, seed: u64) -> Self {
        let spacing = Duration::from_secs_f64(1.0 / rate).max(Duration::from_nanos(1));
        let quota = Quota::with_period(spacing)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self {
            ceiling: RateLimiter::direct_with_clock(quota, CeilingClock(clock)),
            pace: Pace::new(rate, None),
            breaker: Breaker::new(seed),
            let_through: false,
            calls: 0,
            rate,
        }
    }

    /// Begins with what an earlier run has learned. Only before the first request.
    pub fn begin_with(&mut self, learned: &Learned) {
        if learned.is_sound() {
            self.pace = Pace::new(self.rate, Some(learned));
        }
    }

    /// What the next run should begin with; `None` before anything was learned.
    pub fn learned(&self) -> Option<Learned> {
        self.pace.learned()
    }

    /// How many requests may be in flight at once so that latency costs no rate.
    pub fn in_flight_max(&self) -> usize {
        self.pace.in_flight_max()
    }

    /// Lets nothing leave before `at`: what another run sent a moment ago counts too.
    pub fn not_before(&mut self, at: Moment) {
        self.pace.on(PaceEvent::NotBefore(at));
    }

    /// Whether a request may leave at `now`.
    pub fn next(&mut self, now: Moment) -> Next {
        match self.breaker.ready(now) {
            Ready::AfterAnswer => return Next::AfterAnswer,
            Ready::At(at) => return Next::At(at.max(self.pace.next_slot())),
            Ready::Now if now < self.pace.next_slot() => return Next::At(self.pace.next_slot()),
            Ready::Now => {}
        }
        if !self.let_through {
            if let Err(refused) = self.ceiling.check() {
                let wait = refused.wait_time_from(self.ceiling.clock().now());
                return Next::At(now + wait.max(Duration::from_micros(1)));
            }
            self.let_through = true;
        }
        Next::Go
    }

    /// Notes that a request leaves at `now`. Only after [`Gate::next`] said [`Next::Go`].
    pub fn leave(&mut self, now: Moment) -> Ticket {
        self.let_through = false;
        self.calls += 1;
        self.pace.on(PaceEvent::Left { call: self.calls, at: now });
        Ticket { call: self.calls, pass: self.breaker.leave() }
    }

    /// Takes in what a response that came at `at` says about the way to the service. A refusal
    /// with a `retry_after` closes for everyone that long, a minute at most.
    pub fn answered(
        &mut self,
        ticket: Ticket,
        signal: Signal,
        retry_after: Option<Duration>,
        at: Moment,
    ) -> Change {
        let told = match signal {
            Signal::Through => Told::Within,
            Signal::Throttled => Told::Above,
            // Nobody knows whether the limit was asked.
            Signal::Failed | Signal::Neither => Told::Nothing,
        };
        self.pace.on(PaceEvent::Answered { call: ticket.call, at, told });
        self.breaker.answered(ticket.pass, signal, retry_after, at)
    }

    /// Something got through that was no request of this gate: there is no outage. Only while
    /// nothing is in flight.
    pub fn got_through(&mut self) {
        self.breaker.got_through();
    }

    /// Since when nothing has got through, if anything failed since the last that did.
    pub fn failing_since(&self) -> Option<Moment> {
        self.breaker.failing_since()
    }
}

/// Our clock as governor reads one.
#[derive(Debug, Clone)]
struct CeilingClock<C>(C);

impl<C: Clock> GovernorClock for CeilingClock<C> {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;

    /// Drives a gate for `seconds` with a caller that always wants to send, whose requests
    /// leave `delay` after the gate let them, and are answered at once.
    fn departures(rate: f64, seconds: u64, mut delay: impl FnMut() -> Duration) -> Vec<Moment> {
        let clock = ManualClock::new(0);
        let mut gate = Gate::new(rate, clock.clone(), 1);
        let mut left = Vec::new();
        while clock.now() < Moment(Duration::from_secs(seconds)) {
            match gate.next(clock.now()) {
                Next::Go => {
                    clock.advance(delay());
                    let now = clock.now();
                    left.push(now);
                    let ticket = gate.leave(now);
                    gate.answered(ticket, Signal::Through, None, now);
                }
                Next::At(at) => clock.advance(at.since(clock.now())),
                Next::AfterAnswer => unreachable!("every request is answered"),
            }
        }
        left
    }

    fn most_in_a_second(left: &[Moment]) -> usize {
        let second = Duration::from_secs(1);
        left.iter()
            .map(|from| left.iter().filter(|at| *at >= from && at.since(*from) < second).count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn never_more_than_the_rate_leaves_in_any_second_whatever_the_delays() {
        let mut random = fastrand::Rng::with_seed(3);
        for rate in [1.0, 2.5, 5.0] {
            let left = departures(rate, 600, || Duration::from_micros(random.u64(0..80_000)));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let limit = rate.ceil() as usize;
            assert!(most_in_a_second(&left) <= limit, "{rate}");
        }
    }

    #[test]
    fn without_delays_almost_the_whole_limit_is_used() {
        let left = departures(5.0, 100, || Duration::ZERO);
        assert!(left.len() >= 489, "{}", left.len());
        assert!(left.windows(2).all(|two| two[1].since(two[0]) >= Duration::from_millis(200)));
    }

    #[test]
    fn a_slot_that_found_no_job_is_not_lost() {
        let clock = ManualClock::new(0);
        let mut gate = Gate::new(5.0, clock.clone(), 1);
        assert_eq!(gate.next(clock.now()), Next::Go);
        assert_eq!(gate.next(clock.now()), Next::Go);
    }

    #[test]
    fn what_an_earlier_run_sent_counts() {
        let clock = ManualClock::new(0);
        let mut gate = Gate::new(5.0, clock.clone(), 1);
        let at = Moment(Duration::from_secs(1));
        gate.not_before(at);
        assert_eq!(gate.next(clock.now()), Next::At(at));
    }
}
