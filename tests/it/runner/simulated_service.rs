//! A service and a network in virtual time, with a client that always wants to send: shows
//! what share of the limit a pace uses and how often it is refused, over hours, in moments.
//!
//! A call leaves, is counted after the way there, and is answered after the way back. The
//! client is the real gate on a manual clock, or an even spacing to compare with; both
//! close for a second and more at a refusal and reopen by a probe. The benchmarks use this
//! file too.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::learned::LearnedRate;
use deskbatch::limiter::{NextSlot, RateLimiter, ResponseSignal, SlotTicket};

/// Calls that the service allows in a second.
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
    /// No call sooner than 200 ms after the last.
    Spaced,
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How the service counts.
    pub rule: Rule,
    /// Whether refused calls count too.
    pub counts_refused: bool,
    /// The standard deviation of the way there, in milliseconds.
    pub jitter_ms: f64,
    /// From being counted to being answered, in milliseconds.
    pub answer_ms: f64,
    /// The standard deviation of that, in milliseconds.
    pub answer_jitter_ms: f64,
    /// Another program sends once a second between these seconds.
    pub others: Option<(f64, f64)>,
    /// The chance that a call is refused whatever the others do.
    pub refused_at_random: f64,
    /// An even spacing in milliseconds, instead of the gate.
    pub spacing_ms: Option<f64>,
    /// How long, in seconds.
    pub seconds: f64,
}

/// Where counting begins, in seconds: after the first minute.
pub const COUNTED_FROM_S: f64 = 60.0;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Calls within the limit after the first minute, as a share of what it allows.
    pub share: f64,
    /// Of 1,000 calls after the first minute, so many were refused.
    pub refused_of_1000: f64,
    /// Refused among the first hundred calls.
    pub refused_of_first_100: u32,
    /// The most departures in any second.
    pub most_in_a_second: usize,
    /// When the hundredth call left, in seconds.
    pub hundredth_left_s: f64,
    /// The same as the first two, while the other program sent.
    pub share_with_others: f64,
    /// See there.
    pub refused_of_1000_with_others: f64,
    /// What the gate had learned at the end.
    pub learned: Option<LearnedRate>,
}

/// Counts calls.
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

    /// Whether a call that arrives at `now` is within the limit.
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

/// Who sends: the gate, or an even spacing that closes for a second at a refusal.
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
            Self::RateLimiter(gate) => gate.next_slot(now),
            Self::Even { probing: true, .. } => NextSlot::AfterResponse,
            Self::Even { next, .. } if *next > now => NextSlot::At(*next),
            Self::Even { .. } => NextSlot::Now,
        }
    }

    fn leave(&mut self, now: Moment) -> Pass {
        match self {
            Self::RateLimiter(gate) => Pass::RateLimiter(gate.on_send(now)),
            Self::Even { spacing, next, probing, wait } => {
                *next = now + *spacing;
                *probing = *wait > Duration::ZERO;
                Pass::Even
            }
        }
    }

    fn answered(&mut self, pass: Pass, within: bool, now: Moment) {
        let signal = if within { ResponseSignal::Evaluated } else { ResponseSignal::Throttled };
        match (self, pass) {
            (Self::RateLimiter(gate), Pass::RateLimiter(ticket)) => {
                gate.on_response(ticket, signal, None, now);
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
    Answered(usize, bool),
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

/// Runs `case` with the chances of `seed`, beginning with what was `learned` before.
/// `meanwhile` is called at every event, with the clock.
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
    /// Where the service's seconds begin.
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
                let mut gate = RateLimiter::new(RATE, clock.clone(), seed);
                if let Some(learned) = learned {
                    gate.begin_with(learned);
                }
                Client::RateLimiter(gate)
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

    /// A departure, or whatever comes before the next one.
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
        // As `sim/pacing.py`: the way there leaves room for its jitter.
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
                let answer_ms = (case.answer_ms + case.answer_jitter_ms * self.normal()).max(1.0);
                self.comes(now + answer_ms / 1e3, What::Answered(call, within));
            }
            What::Answered(call, within) => {
                if let Some(pass) = self.passes[call].take() {
                    self.client.answered(pass, within, self.clock.now());
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
                Client::RateLimiter(gate) => gate.learned(),
                Client::Even { .. } => None,
            },
        }
    }
}

/// The most of these moments that lie in any second, its end not included.
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
