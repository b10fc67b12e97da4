//! The rate limiter: the one place that says when the next request may leave.
//!
//! The pacer decides how far apart requests leave, and the breaker whether any may leave. In addition,
//! governor enforces the rate as a hard limit, whatever they estimate. The limiter itself never waits, so
//! that the runner can handle responses and signals while it waits for a slot. The caller reports every
//! request that it sends and every response.

mod breaker;
mod limit_model;
mod pacer;
pub mod retry;
mod rtt;

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};

use breaker::{Breaker, Permit, Ready};
pub use breaker::{BreakerChange, CloseReason, ResponseSignal};
use pacer::{LimitSignal, Pacer, PacerEvent};

use crate::domain::clock::{Clock, Moment};
use crate::domain::learned::LearnedRate;

/// When the next slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextSlot {
    Now,
    /// Not before this moment.
    At(Moment),
    /// Not before the response to the probe in flight.
    AfterResponse,
}

/// Identifies a sent request when its response is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotTicket {
    request: u64,
    permit: Permit,
}

type HardLimit<C> =
    governor::RateLimiter<NotKeyed, InMemoryState, HardLimitClock<C>, NoOpMiddleware<Duration>>;

/// The rate limiter of one app: pacer, breaker and hard limit.
#[derive(Debug)]
pub struct RateLimiter<C: Clock> {
    hard_limit: HardLimit<C>,
    pacer: Pacer,
    breaker: Breaker,
    /// Whether the hard limit has permitted a request that is not sent yet.
    has_permit: bool,
    /// The number of sent requests.
    requests: u64,
    rate: f64,
}

impl<C: Clock> RateLimiter<C> {
    /// A limiter for at most `rate` requests a second (above zero). `seed` decides the jitter of the
    /// back-off.
    pub fn new(rate: f64, clock: C, seed: u64) -> Self {
        let spacing = Duration::from_secs_f64(1.0 / rate).max(Duration::from_nanos(1));
        let quota = Quota::with_period(spacing)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::MIN);
        Self {
            hard_limit: governor::RateLimiter::direct_with_clock(quota, HardLimitClock(clock)),
            pacer: Pacer::new(rate, None),
            breaker: Breaker::new(seed),
            has_permit: false,
            requests: 0,
            rate,
        }
    }

    /// Starts with the rate that an earlier run learned. Call it only before the first request.
    pub fn begin_with(&mut self, learned: &LearnedRate) {
        if learned.is_sound() {
            self.pacer = Pacer::new(self.rate, Some(learned));
        }
    }

    /// The learned rate for the next run; `None` before any response.
    pub fn learned(&self) -> Option<LearnedRate> {
        self.pacer.learned()
    }

    /// The number of requests in flight that is enough so that latency does not lower the rate.
    pub fn in_flight_max(&self) -> usize {
        self.pacer.in_flight_max()
    }

    /// Allows no slot before `at`: the service also counts requests of an earlier run.
    pub fn not_before(&mut self, at: Moment) {
        self.pacer.on(PacerEvent::NotBefore(at));
    }

    /// The time of the next slot at `now`. An unused slot stays valid.
    pub fn next_slot(&mut self, now: Moment) -> NextSlot {
        match self.breaker.ready(now) {
            Ready::AfterResponse => return NextSlot::AfterResponse,
            Ready::At(at) => return NextSlot::At(at.max(self.pacer.next_slot())),
            Ready::Now if now < self.pacer.next_slot() => {
                return NextSlot::At(self.pacer.next_slot());
            }
            Ready::Now => {}
        }
        if !self.has_permit {
            if let Err(denied) = self.hard_limit.check() {
                let wait = denied.wait_time_from(self.hard_limit.clock().now());
                return NextSlot::At(now + wait.max(Duration::from_micros(1)));
            }
            self.has_permit = true;
        }
        NextSlot::Now
    }

    /// Records that a request is sent at `now`. Call it only after [`RateLimiter::next_slot`] returned
    /// [`NextSlot::Now`].
    pub fn on_send(&mut self, now: Moment) -> SlotTicket {
        self.has_permit = false;
        self.requests += 1;
        self.pacer.on(PacerEvent::Sent { request: self.requests, at: now });
        SlotTicket { request: self.requests, permit: self.breaker.on_send() }
    }

    /// Records a response at `at`. A push-back or failure with a `retry_after` closes the limiter for that
    /// time, at most a minute.
    pub fn on_response(
        &mut self,
        ticket: SlotTicket,
        signal: ResponseSignal,
        retry_after: Option<Duration>,
        at: Moment,
    ) -> BreakerChange {
        let limit = match signal {
            ResponseSignal::Evaluated => LimitSignal::Accepted,
            ResponseSignal::Throttled => LimitSignal::Rejected,
            // The request may have failed before the rate limit of the service.
            ResponseSignal::Failed | ResponseSignal::Neutral => LimitSignal::Unknown,
        };
        self.pacer.on(PacerEvent::Response { request: ticket.request, at, limit });
        self.breaker.on_response(ticket.permit, signal, retry_after, at)
    }

    /// Records a successful read, so there is no outage. Call it only while nothing is in flight.
    pub fn end_outage(&mut self) {
        self.breaker.end_outage();
    }

    /// The time since which every response is a failure; `None` if the last one is not.
    pub fn failing_since(&self) -> Option<Moment> {
        self.breaker.failing_since()
    }
}

/// The clock of the limiter as governor reads it.
#[derive(Debug, Clone)]
struct HardLimitClock<C>(C);

impl<C: Clock> GovernorClock for HardLimitClock<C> {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;

    /// Runs a limiter for `seconds` with a caller that uses every slot, sends `delay` after it and gets its
    /// responses at once. Returns when the requests were sent.
    fn departures(rate: f64, seconds: u64, mut delay: impl FnMut() -> Duration) -> Vec<Moment> {
        let clock = ManualClock::new(0);
        let mut limiter = RateLimiter::new(rate, clock.clone(), 1);
        let mut left = Vec::new();
        while clock.now() < Moment(Duration::from_secs(seconds)) {
            match limiter.next_slot(clock.now()) {
                NextSlot::Now => {
                    clock.advance(delay());
                    let now = clock.now();
                    left.push(now);
                    let ticket = limiter.on_send(now);
                    limiter.on_response(ticket, ResponseSignal::Evaluated, None, now);
                }
                NextSlot::At(at) => clock.advance(at.since(clock.now())),
                NextSlot::AfterResponse => unreachable!("every request is answered"),
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
    fn rate_limit_holds_in_any_second_with_delays() {
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
    fn unused_slot_is_not_lost() {
        let clock = ManualClock::new(0);
        let mut limiter = RateLimiter::new(5.0, clock.clone(), 1);
        assert_eq!(limiter.next_slot(clock.now()), NextSlot::Now);
        assert_eq!(limiter.next_slot(clock.now()), NextSlot::Now);
    }

    #[test]
    fn limiter_waits_for_requests_of_an_earlier_run() {
        let clock = ManualClock::new(0);
        let mut limiter = RateLimiter::new(5.0, clock.clone(), 1);
        let at = Moment(Duration::from_secs(1));
        limiter.not_before(at);
        assert_eq!(limiter.next_slot(clock.now()), NextSlot::At(at));
    }
}
