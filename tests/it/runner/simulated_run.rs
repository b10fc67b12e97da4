//! Whole runs in virtual time with the real isolation and rate limiter. Shows how often the true end
//! lies inside the ETA range, and how wide that is. The benchmarks use this file too.

use std::collections::BTreeSet;
use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, ManualClock, Moment};
use deskbatch::domain::job::{JobId, TargetStatus};
use deskbatch::eta::{Eta, RunProgress};
use deskbatch::isolate::{Group, GroupResult, Isolate, RejectionScope};
use deskbatch::limiter::{BreakerChange, NextSlot, RateLimiter, ResponseSignal, SlotTicket};

/// A run to simulate: jobs 1 to `jobs`.
#[derive(Debug, Clone)]
pub struct Case {
    pub jobs: u64,
    pub bad: BTreeSet<JobId>,
    /// The share of requests that are throttled.
    pub throttled: f64,
    pub latency_ms: u64,
    pub seed: u64,
}

/// An ETA and the true end.
#[derive(Debug)]
pub struct Point {
    estimate: Eta,
    true_s: f64,
}

impl Point {
    pub fn is_hit(&self) -> bool {
        let time = &self.estimate.time;
        (time.start().as_secs_f64()..=time.end().as_secs_f64()).contains(&self.true_s)
    }

    /// The width of the range as a share of the true time.
    pub fn width(&self) -> f64 {
        let time = &self.estimate.time;
        (time.end().as_secs_f64() - time.start().as_secs_f64()) / self.true_s
    }
}

struct Flight {
    lands: Moment,
    left: Moment,
    ticket: SlotTicket,
    group: Group,
}

pub struct Simulation<'a> {
    case: &'a Case,
    random: fastrand::Rng,
    clock: ManualClock,
    limiter: RateLimiter<ManualClock>,
    isolate: Isolate,
    pool: BTreeSet<JobId>,
    again: Vec<Group>,
    flying: Vec<Flight>,
    course: RunProgress,
    good: u64,
    failed: u64,
}

const IN_FLIGHT: usize = 4;

impl<'a> Simulation<'a> {
    pub fn new(case: &'a Case) -> Self {
        let clock = ManualClock::new(0);
        Self {
            case,
            random: fastrand::Rng::with_seed(case.seed),
            limiter: RateLimiter::new(5.0, clock.clone(), case.seed),
            clock,
            isolate: Isolate::new(100),
            pool: (1..=i64::try_from(case.jobs).expect("few jobs")).collect(),
            again: Vec::new(),
            flying: Vec::new(),
            course: RunProgress::new(5.0),
            good: 0,
            failed: 0,
        }
    }

    /// Returns ETAs at the moments when each of `shares` of the jobs is done, with the true end.
    pub fn run(mut self, shares: &[f64]) -> Vec<Point> {
        let mut taken = Vec::new();
        loop {
            while self.send() {}
            if !self.land() {
                break;
            }
            let done = self.good + self.failed;
            let next = shares.get(taken.len());
            if next.is_some_and(|share| real(done) >= share * real(self.case.jobs)) {
                let open = [0, self.case.jobs - done, 0];
                let estimate = self.course.estimate(open, 100);
                taken.push((self.clock.now(), estimate));
            }
        }
        let end = self.clock.now();
        taken
            .into_iter()
            .map(|(at, estimate)| Point { estimate, true_s: end.since(at).as_secs_f64() })
            .collect()
    }

    fn next_group(&mut self) -> Option<Group> {
        if self.pool.is_empty() && self.again.is_empty() && self.flying.is_empty() {
            self.isolate.verify_inferred();
        }
        self.again.pop().or_else(|| self.isolate.next_group()).or_else(|| {
            let first = *self.pool.first()?;
            let size = self.isolate.free_group_size(TargetStatus::Disable, first);
            let ids: Vec<JobId> = self.pool.iter().copied().take(size).collect();
            for id in &ids {
                self.pool.remove(id);
            }
            Some(self.isolate.free_group(TargetStatus::Disable, ids))
        })
    }

    /// Sends one request after waiting for its slot, if no response comes before.
    fn send(&mut self) -> bool {
        if self.flying.len() >= IN_FLIGHT {
            return false;
        }
        let wait = match self.limiter.next_slot(self.clock.now()) {
            NextSlot::Now => Duration::ZERO,
            NextSlot::AfterResponse => return false,
            NextSlot::At(at) if self.flying.iter().any(|flight| flight.lands <= at) => {
                return false;
            }
            NextSlot::At(at) => at.since(self.clock.now()),
        };
        if !wait.is_zero() {
            self.clock.advance(wait);
            return true;
        }
        let Some(group) = self.next_group() else { return false };
        let left = self.clock.now();
        let ticket = self.limiter.on_send(left);
        let ms = self.case.latency_ms * self.random.u64(80..160) / 100;
        let lands = left + Duration::from_millis(ms);
        self.flying.push(Flight { lands, left, ticket, group });
        true
    }

    /// Settles the next response; `false` if no request is in flight.
    fn land(&mut self) -> bool {
        let Some(at) = (0..self.flying.len()).min_by_key(|at| self.flying[*at].lands) else {
            assert!(self.pool.is_empty() && self.isolate.is_empty() && self.again.is_empty());
            return false;
        };
        let Flight { lands, left, ticket, group } = self.flying.swap_remove(at);
        self.clock.advance(lands.since(self.clock.now()));
        let now = self.clock.now();
        let throttled = self.random.f64() < self.case.throttled;
        let signal = if throttled { ResponseSignal::Throttled } else { ResponseSignal::Evaluated };
        match self.limiter.on_response(ticket, signal, None, now) {
            BreakerChange::None => {}
            BreakerChange::Closed { .. } => self.course.on_closed(now.0),
            BreakerChange::Opened => self.course.on_opened(now.0),
        }
        if throttled {
            self.again.push(group);
        } else {
            self.settle(group);
        }
        self.course.on_response(now.0, now.since(left), !throttled, self.good, self.failed);
        true
    }

    fn settle(&mut self, group: Group) {
        let first_bad = group.ids.iter().find(|id| self.case.bad.contains(id));
        let jobs = group.ids.len() as u64;
        let outcome = match first_bad {
            Some(id) => GroupResult::Rejected { rejection: *id, scope: RejectionScope::Questions },
            None => GroupResult::Applied,
        };
        match outcome {
            GroupResult::Applied => self.good += jobs,
            GroupResult::Rejected { .. } => self.failed += u64::from(jobs == 1),
        }
        let findings = self.isolate.record(group, outcome);
        self.pool.extend(findings.released);
        self.failed += findings.inferred.len() as u64;
    }
}

/// Other seeds than those by which the constants were chosen.
const FIRST_SEED: u64 = 1_000_003;

/// The documented moments: the share of jobs done.
pub const MOMENTS: [f64; 2] = [0.1, 0.5];

/// Kinds whose end is like their beginning: how many of 100 runs must lie inside the range, and the
/// limits of its median width at both moments, as a multiple of the true time. Three blocks are too few
/// to predict the fourth, so their limits are looser.
pub const ALIKE: [(Kind, u32, [f64; 2]); 9] = [
    (Kind::Share(0.0), 90, [3.8, 1.6]),
    (Kind::Share(0.000_1), 90, [3.6, 1.6]),
    (Kind::Share(0.001), 90, [2.6, 1.8]),
    (Kind::Share(0.01), 90, [1.7, 1.0]),
    (Kind::Share(0.1), 90, [0.8, 0.5]),
    (Kind::Rows(2), 90, [2.0, 1.3]),
    (Kind::Rows(3), 90, [2.3, 1.4]),
    (Kind::Rows(10), 85, [3.1, 2.2]),
    (Kind::Rows(30), 80, [1.6, 3.0]),
];

/// How the bad ids are placed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Each id is bad with this probability.
    Share(f64),
    /// One in a hundred, in blocks of this length.
    Rows(i64),
    /// All of them in the first tenth, where each id is bad with this probability.
    First(f64),
    /// The same in the last tenth.
    Last(f64),
}

impl Kind {
    fn bad(self, jobs: u64, random: &mut fastrand::Rng) -> BTreeSet<JobId> {
        let jobs = i64::try_from(jobs).expect("few jobs");
        let mut among = |from: JobId, to: JobId, share: f64| -> BTreeSet<JobId> {
            (from..=to).filter(|_| random.f64() < share).collect()
        };
        match self {
            Kind::Share(share) => among(1, jobs, share),
            Kind::First(share) => among(1, jobs / 10, share),
            Kind::Last(share) => among(jobs - jobs / 10 + 1, jobs, share),
            Kind::Rows(length) => (0..jobs / 100 / length)
                .flat_map(|_| {
                    let from = random.i64(1..=jobs - length);
                    from..from + length
                })
                .collect(),
        }
    }
}

/// ETAs of many runs of one kind.
#[derive(Debug)]
pub struct Tried {
    /// By moment, then by run.
    pub points: Vec<Vec<Point>>,
}

impl Tried {
    /// Simulates `runs` runs with an ETA when each of `shares` of the jobs is done. Every second run is
    /// throttled at times, and each has its own latency.
    pub fn new(kind: Kind, jobs: u64, runs: u64, shares: &[f64]) -> Self {
        let mut points: Vec<Vec<Point>> = shares.iter().map(|_| Vec::new()).collect();
        for run in 0..runs {
            let mut random = fastrand::Rng::with_seed(
                (FIRST_SEED + run + jobs).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            );
            let case = Case {
                jobs,
                bad: kind.bad(jobs, &mut random),
                throttled: if run % 2 == 0 { 0.02 } else { 0.0 },
                latency_ms: random.u64(30..350),
                seed: random.u64(..),
            };
            for (at, point) in Simulation::new(&case).run(shares).into_iter().enumerate() {
                points[at].push(point);
            }
        }
        Self { points }
    }

    /// The number of runs that ended inside the range.
    pub fn hits(&self, at: usize) -> usize {
        self.points[at].iter().filter(|point| point.is_hit()).count()
    }

    /// The share of runs that ended inside the range.
    pub fn hit_rate(&self, at: usize) -> f64 {
        real(self.hits(at) as u64) / real(self.points[at].len() as u64)
    }

    /// The median of the range's width, as a multiple of the true time.
    pub fn median_width(&self, at: usize) -> f64 {
        median(self.points[at].iter().map(Point::width).collect())
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
pub fn real(n: u64) -> f64 {
    n as f64
}
