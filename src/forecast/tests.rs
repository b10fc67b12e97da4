//! How often the true end lies inside the range, and how wide the range is; and what the
//! range relies on.

mod simulation;

use std::collections::BTreeSet;

use super::*;
use crate::job::JobId;
use simulation::{Case, Point, Simulation};

/// How the bad ones stand.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Each with this chance.
    Share(f64),
    /// One in a hundred, in rows of so many.
    Rows(i64),
    /// All of them in the first tenth, which is bad with this chance.
    First(f64),
    /// The same at the end.
    Last(f64),
}

impl Kind {
    fn bad(self, jobs: u64, random: &mut fastrand::Rng) -> BTreeSet<JobId> {
        let jobs = i64::try_from(jobs).unwrap();
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

/// Forecasts of many runs of one kind.
#[derive(Debug)]
struct Tried {
    /// By moment, then by run.
    points: Vec<Vec<Point>>,
}

impl Tried {
    /// `runs` of them, with a forecast when each of `shares` of the jobs is done. Every
    /// second one is refused as too fast now and then, each has a latency of its own.
    fn new(kind: Kind, jobs: u64, runs: u64, shares: &[f64]) -> Self {
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

    fn hits(&self, at: usize) -> usize {
        self.points[at].iter().filter(|point| point.is_hit()).count()
    }

    /// The share of runs that ended inside the range.
    fn hit_rate(&self, at: usize) -> f64 {
        real(self.hits(at) as u64) / real(self.points[at].len() as u64)
    }

    fn median_width(&self, at: usize) -> f64 {
        median(self.points[at].iter().map(Point::width).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The moments of the promise.
const PROMISED: [f64; 2] = [0.1, 0.5];
const RUNS: u64 = 40;
/// Other runs than those that the constants were chosen by.
const FIRST_SEED: u64 = 1_000_003;

/// Kinds whose end is like their beginning: how many of 100 runs lie inside at least, and
/// the widest that the range may be at both moments, in the median, as a multiple of the true
/// time. Three rows are too few to know anything of the fourth: they get by with less.
const ALIKE: [(Kind, u32, [f64; 2]); 9] = [
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

/// Measured with 200 runs of 10,000 jobs of each kind, every second with one request in
/// fifty refused as too fast: inside the range, and its median width by the true time.
///
/// | bad | at 10 % | | at 50 % | |
/// | --- | --- | --- | --- | --- |
/// | none | 100 % | 3.2 | 99 % | 1.5 |
/// | 1 in 10,000 | 100 % | 3.0 | 100 % | 1.4 |
/// | 0.1 % | 99 % | 2.2 | 98 % | 1.5 |
/// | 1 % | 98 % | 1.6 | 99 % | 1.0 |
/// | 10 % | 97 % | 0.7 | 98 % | 0.4 |
/// | 1 % in rows of 2 | 96 % | 1.9 | 97 % | 1.2 |
/// | of 3 | 92 % | 2.2 | 98 % | 1.3 |
/// | of 10 | 91 % | 2.7 | 94 % | 1.8 |
/// | of 30, three of them | 97 % | 1.2 | 84 % | 2.2 |
///
/// All of these and the same with 3,000 jobs: 97 % and 96 %. What is not held: ten rows of
/// 30 in 30,000 jobs, 60 % and 83 %. Before the first was seen nothing says that there are
/// any, and each costs nearly 60 requests; to allow for that would make every clean run's range
/// half as wide again.
#[test]
fn the_true_end_lies_inside_the_range_in_nine_of_ten_runs() {
    let mut wrong = Vec::new();
    let (mut hits, mut widths) = ([0, 0], [Vec::new(), Vec::new()]);
    for (kind, least, widest) in ALIKE {
        let long = Tried::new(kind, 10_000, RUNS, &PROMISED);
        let short = Tried::new(kind, 3_000, RUNS, &PROMISED);
        for at in 0..2 {
            let (rate, width) = (long.hit_rate(at), long.median_width(at));
            if rate * 100.0 < f64::from(least) || width > widest[at] {
                wrong.push(format!("{kind:?} at {}: {rate}, width {width:.2}", PROMISED[at]));
            }
            for tried in [&long, &short] {
                hits[at] += tried.hits(at);
                widths[at].extend(tried.points[at].iter().map(Point::width));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (at, most) in [(0, 2.6), (1, 1.7)] {
        let rate = real(hits[at] as u64) / real(widths[at].len() as u64);
        let width = median(widths[at].clone());
        assert!(rate >= 0.9, "{} at {}", rate, PROMISED[at]);
        assert!(width <= most, "{} at {}", width, PROMISED[at]);
    }
}

/// Where all bad ones stand in the first tenth, the end is known as soon as they are past,
/// and not before: just then it looks as if all were like them. Held even so if they stand
/// in one row. Where all stand in the last tenth nothing can be known before.
#[test]
fn a_manifest_whose_end_is_unlike_its_beginning_surprises_once() {
    for (kind, at_first) in [(Kind::First(1.0), 1.0), (Kind::First(0.3), 0.0)] {
        let tried = Tried::new(kind, 10_000, RUNS, &PROMISED);
        assert!((tried.hit_rate(0) - at_first).abs() < 0.1, "{tried:?}");
        // Of 200 runs 97 and 93 in 100.
        assert!(tried.hit_rate(1) >= 0.85, "{kind:?}: {}", tried.hit_rate(1));
        assert!(tried.median_width(1) <= 1.8, "{kind:?}: {}", tried.median_width(1));
    }
    let tried = Tried::new(Kind::Last(0.3), 10_000, RUNS, &[0.1, 0.5, 0.95]);
    assert!(tried.hit_rate(0) < 0.1 && tried.hit_rate(1) < 0.1, "as good as prophecy");
    assert!(tried.hit_rate(2) >= 0.9, "in the midst of them: {}", tried.hit_rate(2));
    assert!(tried.median_width(2) <= 0.7, "{}", tried.median_width(2));
}

#[test]
fn before_anything_is_seen_the_range_begins_with_full_chunks() {
    let all = forecast([9_950, 0, 20], 100, Seen::default(), Speed::of_rate(5.0));
    assert_eq!(*all.requests.start(), 101);
    // As if two or three in a hundred were bad.
    assert!((1_000..2_500).contains(all.requests.end()), "{all:?}");
    assert!((18.0..20.2).contains(&all.time.start().as_secs_f64()), "{all:?}");
    let none = forecast([0; 3], 100, Seen::default(), Speed::of_rate(5.0));
    assert_eq!((none.requests, none.time), (0..=0, Duration::ZERO..=Duration::ZERO));
}

/// The medians that the search itself promises.
#[test]
fn what_a_run_needed_says_what_the_same_again_needs() {
    for (bad, requests) in [(10, 174), (100, 821), (1_000, 4_761), (100, 274), (9_000, 10_100)] {
        let seen = Seen::of_totals(10_000 - bad, bad, requests);
        let again = forecast([10_000, 0, 0], 100, seen, Speed::of_rate(5.0)).requests;
        assert!(again.contains(&requests), "{bad} bad, {requests} requests: {again:?}");
        assert!(*again.end() <= requests * 4, "{bad} bad, {requests} requests: {again:?}");
    }
    // Many small batches say nothing of what a chunk needs.
    let small = Seen::of_totals(300, 2, 120);
    let again = forecast([10_000, 0, 0], 100, small, Speed::of_rate(5.0)).requests;
    assert!(*again.end() < 2_500, "{again:?}");
}

#[test]
fn a_service_that_takes_fewer_at_once_is_noticed() {
    let mut seen = Seen::default();
    for answers in 1..=100 {
        seen.note(answers * 20, 0, answers + 8);
    }
    let rest = forecast([2_000, 0, 0], 100, seen, Speed::of_rate(5.0)).requests;
    assert!((95..115).contains(rest.start()), "{rest:?}");
}

#[test]
fn closings_of_the_gate_are_expected_to_go_on() {
    let open = Speed { requests: 500, ..Speed::of_rate(5.0) };
    let shut = Speed { closings: 20, closed: Duration::from_secs(40), ..open };
    let mut seen = Seen::default();
    seen.note(10_000, 0, 101);
    let (without, with) =
        (forecast([10_000, 0, 0], 100, seen, open), forecast([10_000, 0, 0], 100, seen, shut));
    assert_eq!(without.requests, with.requests);
    assert!(without.time.start() < with.time.start() && without.time.end() < with.time.end());
}

#[test]
fn stretches_are_folded_and_nothing_is_lost() {
    let mut seen = Seen::default();
    for answer in 1..=1_000 {
        seen.note(answer * 70, answer, answer * 3);
        let sum = |of: fn(&Stretch) -> u64| seen.stretches.iter().map(of).sum::<u64>();
        assert_eq!(sum(|one| one.good), seen.good);
        assert_eq!(sum(|one| one.bad), seen.bad);
        assert_eq!(sum(|one| one.requests), seen.requests);
    }
    assert!((STRETCHES / 2..=STRETCHES).contains(&seen.begun), "{}", seen.begun);
}

#[test]
fn the_rate_is_that_of_slots_while_the_gate_was_open() {
    let at = Duration::from_secs;
    let mut course = Course::new(5.0);
    for second in 1..=400 {
        // Shut from 100 to 300.
        match second {
            100 => course.closed(at(second)),
            300 => course.opened(at(second)),
            _ => {}
        }
        if !(100..300).contains(&second) {
            course.answered(at(second), Duration::ZERO, true, second * 100, 0);
        }
    }
    let speed = course.speed();
    assert!((0.95..1.1).contains(&speed.rate), "{speed:?}");
    assert_eq!((speed.closings, speed.closed), (1, at(200)));
}
