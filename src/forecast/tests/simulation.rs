//! Whole runs in virtual time, with the real search and the real gate.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::{Clock as _, ManualClock, Moment};
use crate::forecast::{Course, Forecast, real};
use crate::gate::{Change, Gate, Next, Signal, Ticket};
use crate::isolate::{Group, Isolate, Outcome};
use crate::job::{JobId, Status};

/// A run to simulate: jobs 1 to `jobs`.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) jobs: u64,
    pub(super) bad: BTreeSet<JobId>,
    /// How often a request is refused as too fast.
    pub(super) throttled: f64,
    pub(super) latency_ms: u64,
    pub(super) seed: u64,
}

/// A forecast, and what came.
#[derive(Debug)]
pub(super) struct Point {
    forecast: Forecast,
    true_s: f64,
}

impl Point {
    pub(super) fn is_hit(&self) -> bool {
        let time = &self.forecast.time;
        (time.start().as_secs_f64()..=time.end().as_secs_f64()).contains(&self.true_s)
    }

    /// Of the range, as a share of the true time.
    pub(super) fn width(&self) -> f64 {
        let time = &self.forecast.time;
        (time.end().as_secs_f64() - time.start().as_secs_f64()) / self.true_s
    }
}

struct Flight {
    lands: Moment,
    left: Moment,
    ticket: Ticket,
    group: Group,
}

pub(super) struct Simulation<'a> {
    case: &'a Case,
    random: fastrand::Rng,
    clock: ManualClock,
    gate: Gate<ManualClock>,
    isolate: Isolate,
    pool: BTreeSet<JobId>,
    again: Vec<Group>,
    flying: Vec<Flight>,
    course: Course,
    good: u64,
    failed: u64,
}

const IN_FLIGHT: usize = 4;

impl<'a> Simulation<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        let clock = ManualClock::new(0);
        Self {
            case,
            random: fastrand::Rng::with_seed(case.seed),
            gate: Gate::new(5.0, clock.clone(), case.seed),
            clock,
            isolate: Isolate::new(100),
            pool: (1..=i64::try_from(case.jobs).unwrap()).collect(),
            again: Vec::new(),
            flying: Vec::new(),
            course: Course::new(5.0),
            good: 0,
            failed: 0,
        }
    }

    /// Forecasts when each of the `shares` of the jobs are done, and how it was in the end.
    pub(super) fn run(mut self, shares: &[f64]) -> Vec<Point> {
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
                let forecast = self.course.forecast(open, 100);
                taken.push((self.clock.now(), forecast));
            }
        }
        let end = self.clock.now();
        taken
            .into_iter()
            .map(|(at, forecast)| Point { forecast, true_s: end.since(at).as_secs_f64() })
            .collect()
    }

    fn next_group(&mut self) -> Option<Group> {
        self.again.pop().or_else(|| self.isolate.next_group()).or_else(|| {
            let first = *self.pool.first()?;
            let size = self.isolate.free_jobs(Status::Disable, first);
            let ids: Vec<JobId> = self.pool.iter().copied().take(size).collect();
            for id in &ids {
                self.pool.remove(id);
            }
            Some(Group::free(Status::Disable, ids))
        })
    }

    /// Sends one request, after waiting for its slot, if no answer comes before.
    fn send(&mut self) -> bool {
        if self.flying.len() >= IN_FLIGHT {
            return false;
        }
        let wait = match self.gate.next(self.clock.now()) {
            Next::Go => Duration::ZERO,
            Next::AfterAnswer => return false,
            Next::At(at) if self.flying.iter().any(|flight| flight.lands <= at) => return false,
            Next::At(at) => at.since(self.clock.now()),
        };
        if !wait.is_zero() {
            self.clock.advance(wait);
            return true;
        }
        let Some(group) = self.next_group() else { return false };
        let left = self.clock.now();
        let ticket = self.gate.leave(left);
        let ms = self.case.latency_ms * self.random.u64(80..160) / 100;
        let lands = left + Duration::from_millis(ms);
        self.flying.push(Flight { lands, left, ticket, group });
        true
    }

    /// Takes in the answer that comes next; `false` if none is awaited.
    fn land(&mut self) -> bool {
        let Some(at) = (0..self.flying.len()).min_by_key(|at| self.flying[*at].lands) else {
            assert!(self.pool.is_empty() && self.isolate.is_empty() && self.again.is_empty());
            return false;
        };
        let Flight { lands, left, ticket, group } = self.flying.swap_remove(at);
        self.clock.advance(lands.since(self.clock.now()));
        let now = self.clock.now();
        let throttled = self.random.f64() < self.case.throttled;
        let signal = if throttled { Signal::Throttled } else { Signal::Through };
        match self.gate.answered(ticket, signal, now) {
            Change::None => {}
            Change::Closed { .. } => self.course.closed(now.0),
            Change::Opened => self.course.opened(now.0),
        }
        if throttled {
            self.again.push(group);
        } else {
            self.settle(group);
        }
        self.course.answered(now.0, now.since(left), !throttled, self.good, self.failed);
        true
    }

    fn settle(&mut self, group: Group) {
        let first_bad = group.ids.iter().find(|id| self.case.bad.contains(id));
        let jobs = group.ids.len() as u64;
        let outcome = match first_bad {
            Some(id) => Outcome::Refused { refusal: *id, of_questions: true },
            None => Outcome::Applied,
        };
        match outcome {
            Outcome::Applied => self.good += jobs,
            Outcome::Refused { .. } => self.failed += u64::from(jobs == 1),
        }
        let findings = self.isolate.record(group, outcome);
        self.pool.extend(findings.freed);
        self.failed += u64::from(findings.bad.is_some());
    }
}
