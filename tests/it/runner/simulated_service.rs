//! A service and a network in virtual time with a client that always has requests to send: the share of
//! the limit that a rate uses, and how often it is throttled, over hours.
//!
//! A request leaves, is counted after the way there, and its response returns after the way back. The
//! client is the real rate limiter on a manual clock, or an even spacing for comparison. Both close the
//! breaker for a second or more at a push-back and reopen it with a probe. The benchmarks use this file
//! too.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::learned::LearnedRate;
use deskbatch::limiter::{NextSlot, RateLimiter, ResponseSignal, SlotTicket};

/// Requests that the service allows per second.
pub const LIMIT: usize = 5;
const RATE: f64 = 5.0;

/// How the service counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// No more than the limit in any second.
    Sliding,
    /// No more than the limit in a second of its own clock.
    Fixed,
    /// A bucket of five that refills five times a second.
    Bucket,
    /// No request sooner than 200 ms after the last.
    Spaced,
}

/// The conditions of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How the service counts.
    pub rule: Rule,
    /// Whether throttled requests count too.
    pub counts_refused: bool,
    /// The standard deviation of the way there, in milliseconds: the arrival jitter.
    pub jitter_ms: f64,
    /// From being counted to the response, in milliseconds.
    pub response_ms: f64,
    /// The standard deviation of that time, in milliseconds.
    pub response_jitter_ms: f64,
    /// Another program sends once a second between these seconds.
    pub others: Option<(f64, f64)>,
    /// The probability that a request is throttled for no reason.
    pub refused_at_random: f64,
    /// An even spacing in milliseconds instead of the rate limiter.
    pub spacing_ms: Option<f64>,
    /// The simulated time in seconds.
    pub seconds: f64,
}

/// Counting begins after the first minute, in seconds.
pub const COUNTED_FROM_S: f64 = 60.0;

/// The result of a simulation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Requests within the limit after the first minute, as a share of what it allows.
    pub share: f64,
    /// Throttled requests in 1,000 after the first minute.
    pub refused_of_1000: f64,
    /// Throttled requests among the first hundred.
    pub refused_of_first_100: u32,
    /// The most departures in any second.
    pub most_in_a_second: usize,
    /// When the hundredth request left, in seconds.
    pub hundredth_left_s: f64,
    /// The share while the other program sends.
    pub share_with_others: f64,
    /// Throttled requests in 1,000 while the other program sends.
    pub refused_of_1000_with_others: f64,
    /// The learned rate at the end.
    pub learned: Option<LearnedRate>,
}

/// Counts requests.
#[derive(Debug)]
struct Service {
    rule: Rule,
    counts_refused: bool,
    counted: VecDeque<f64>,
    tokens: f64,
    last: f64,
}

impl Service {
    fn new(case: &Case) -> Self {
        let Case { rule, counts_refused, .. } = *case;
        let tokens = RATE;
        Self { rule, counts_refused, counted: VecDeque::new(), tokens, last: -1.0 }
    }

    /// Whether a request that arrives at `now` is within the limit.
    fn admits(&mut self, now: f64) -> bool {
        let within = match self.rule {
            Rule::Sliding | Rule::Fixed => {
                let over = |at: f64| match self.rule {
                    Rule::Fixed => at.floor() < now.floor(),
                    _ => at <= now - 1.0,
                };
                while self.counted.front().is_some_and(|at| over(*at)) {
                    self.counted.pop_front();
                }
                self.counted.len() < LIMIT
            }
            Rule::Bucket => {
                self.tokens = (self.tokens + (now - self.last) * RATE).min(RATE);
                self.last = now;
                self.tokens >= 1.0 - 1e-9
            }
            Rule::Spaced => now - self.last >= 1.0 / RATE - 1e-9,
        };
        if within || self.counts_refused {
            match self.rule {
                Rule::Bucket => self.tokens = (self.tokens - 1.0).max(0.0),
                Rule::Spaced => self.last = now,
                Rule::Sliding | Rule::Fixed => self.counted.push_back(now),
            }
        }
        within
    }
}

/// The sender: the rate limiter, or an even spacing that pauses for a second at a push-back.
#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Client {
    RateLimiter(RateLimiter<ManualClock>),
    Even { spacing: Duration, next: Moment, probing: bool, wait: Duration },
}

enum Pass {
    RateLimiter(SlotTicket),
    Even,
}

impl Client {
    fn next(&mut self, now: Moment) -> NextSlot {
        match self {
            Self::RateLimiter(limiter) => limiter.next_slot(now),
            Self::Even { probing: true, .. } => NextSlot::AfterResponse,
            Self::Even { next, .. } if *next > now => NextSlot::At(*next),
            Self::Even { .. } => NextSlot::Now,
        }
    }

    fn leave(&mut self, now: Moment) -> Pass {
        match self {
            Self::RateLimiter(limiter) => Pass::RateLimiter(limiter.on_send(now)),
            Self::Even { spacing, next, probing, wait } => {
                *next = now + *spacing;
                *probing = *wait > Duration::ZERO;
                Pass::Even
            }
        }
    }

    fn responded(&mut self, pass: Pass, within: bool, now: Moment) {
        let signal = if within { ResponseSignal::Evaluated } else { ResponseSignal::Throttled };
        match (self, pass) {
            (Self::RateLimiter(limiter), Pass::RateLimiter(ticket)) => {
                limiter.on_response(ticket, signal, None, now);
            }
            (Self::Even { next, probing, wait, .. }, _) => {
                if within && *probing {
                    (*probing, *wait) = (false, Duration::ZERO);
                } else if !within && (*wait == Duration::ZERO || *probing) {
                    let longer =
                        (*wait * 2).clamp(Duration::from_millis(1_125), Duration::from_secs(30));
                    (*next, *probing, *wait) = (now + longer, false, longer);
                }
            }
            (Self::RateLimiter(_), Pass::Even) => unreachable!("one client has one kind of pass"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Others,
    Arrives(usize),
    Responded(usize, bool),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Coming {
    at: f64,
    order: u64,
    what: What,
}

impl Eq for Coming {}
impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Coming {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.order.cmp(&other.order))
    }
}

/// Runs `case` with `seed`, starting with the `learned` rate. Calls `meanwhile` with the clock at every
/// event.
pub fn simulate(
    case: &Case,
    seed: u64,
    learned: Option<&LearnedRate>,
    mut meanwhile: impl FnMut(&ManualClock),
) -> Figures {
    let mut world = World::new(case, seed, learned);
    while world.now() < case.seconds {
        meanwhile(&world.clock);
        world.step(case);
    }
    world.figures(case)
}

struct World {
    clock: ManualClock,
    client: Client,
    service: Service,
    random: fastrand::Rng,
    /// The offset of the service's seconds.
    phase: f64,
    coming: BinaryHeap<Reverse<Coming>>,
    order: u64,
    passes: Vec<Option<Pass>>,
    left: Vec<f64>,
    counted: Vec<(f64, bool)>,
}

impl World {
    fn new(case: &Case, seed: u64, learned: Option<&LearnedRate>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = ManualClock::new(1_800_000_000_000);
        let client = match case.spacing_ms {
            None => {
                let mut limiter = RateLimiter::new(RATE, clock.clone(), seed);
                if let Some(learned) = learned {
                    limiter.begin_with(learned);
                }
                Client::RateLimiter(limiter)
            }
            Some(ms) => Client::Even {
                spacing: Duration::from_secs_f64(ms / 1e3),
                next: Moment::default(),
                probing: false,
                wait: Duration::ZERO,
            },
        };
        let mut world = Self {
            clock,
            client,
            service: Service::new(case),
            phase: random.f64(),
            random,
            coming: BinaryHeap::new(),
            order: 0,
            passes: Vec::new(),
            left: Vec::new(),
            counted: Vec::new(),
        };
        if let Some((from, to)) = case.others {
            let mut at = from;
            while at < to {
                let late = world.random.f64() * 0.02;
                world.comes(at + late, What::Others);
                at += 1.0;
            }
        }
        world
    }

    fn now(&self) -> f64 {
        self.clock.now().0.as_secs_f64()
    }

    fn comes(&mut self, at: f64, what: What) {
        self.order += 1;
        self.coming.push(Reverse(Coming { at, order: self.order, what }));
    }

    /// Processes a departure or an earlier event.
    fn step(&mut self, case: &Case) {
        let now = self.clock.now();
        let slot = match self.client.next(now) {
            NextSlot::Now => return self.leave(case),
            NextSlot::At(at) => Some(at.0.as_secs_f64()),
            NextSlot::AfterResponse => None,
        };
        let first = self.coming.peek().map(|coming| coming.0.at);
        match (first, slot) {
            (Some(at), slot) if slot.is_none_or(|slot| at <= slot) => {
                self.advance_to(at);
                if let Some(Reverse(coming)) = self.coming.pop() {
                    self.happens(case, coming.what);
                }
            }
            (_, Some(_)) => {
                if let NextSlot::At(at) = self.client.next(now) {
                    self.clock.advance(at.since(now));
                }
            }
            (_, None) => unreachable!("an answer is always under way"),
        }
    }

    fn leave(&mut self, case: &Case) {
        let now = self.now();
        let pass = self.client.leave(self.clock.now());
        self.passes.push(Some(pass));
        self.left.push(now);
        // As in `sim/pacing.py`: the way there is long enough for its jitter.
        let usual_ms = if case.jitter_ms < 20.0 { 50.0 } else { 150.0 };
        let way_ms = (usual_ms + case.jitter_ms * self.normal()).max(0.0);
        self.comes(now + way_ms / 1e3, What::Arrives(self.passes.len() - 1));
    }

    fn happens(&mut self, case: &Case, what: What) {
        let now = self.now();
        match what {
            What::Others => {
                self.service.admits(now + self.phase);
            }
            What::Arrives(call) => {
                let chance = case.refused_at_random;
                let at_random = chance > 0.0 && self.random.f64() < chance;
                let within = !at_random && self.service.admits(now + self.phase);
                self.counted.push((now, within));
                let response_ms =
                    (case.response_ms + case.response_jitter_ms * self.normal()).max(1.0);
                self.comes(now + response_ms / 1e3, What::Responded(call, within));
            }
            What::Responded(call, within) => {
                if let Some(pass) = self.passes[call].take() {
                    self.client.responded(pass, within, self.clock.now());
                }
            }
        }
    }

    fn advance_to(&mut self, at: f64) {
        let at = Moment(Duration::from_secs_f64(at.max(0.0)));
        self.clock.advance(at.since(self.clock.now()));
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.random.f64().max(1e-12), self.random.f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    fn figures(self, case: &Case) -> Figures {
        let between = |from: f64, to: f64| {
            let calls = self.counted.iter().filter(|(at, _)| *at >= from && *at < to);
            let (mut within, mut refused) = (0.0, 0.0);
            calls.for_each(|(_, ok)| if *ok { within += 1.0 } else { refused += 1.0 });
            (within / (RATE * (to - from)), 1e3 * refused / f64::max(within + refused, 1.0))
        };
        let (share, refused_of_1000) = between(COUNTED_FROM_S, case.seconds);
        let others = case.others.map(|(from, to)| between(from, to)).unwrap_or_default();
        let first = self.counted.iter().take(100);
        Figures {
            share,
            refused_of_1000,
            refused_of_first_100: first.map(|(_, within)| u32::from(!within)).sum(),
            most_in_a_second: most_in_a_second(&self.left),
            hundredth_left_s: self.left.get(99).copied().unwrap_or(f64::INFINITY),
            share_with_others: others.0,
            refused_of_1000_with_others: others.1,
            learned: match self.client {
                Client::RateLimiter(limiter) => limiter.learned(),
                Client::Even { .. } => None,
            },
        }
    }
}

/// The most of these moments in any half-open second.
fn most_in_a_second(left: &[f64]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in left.iter().enumerate() {
        while at - left[first] >= 1.0 - 1e-9 {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}
