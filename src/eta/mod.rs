//! How long the rest takes: the requests that are still needed, at the pace that the
//! service bears, as a range.
//!
//! Pure: what is left and what was seen so far come in, a range comes out. Counted in
//! requests and never in items, since the slots are what is scarce: a full chunk takes one,
//! a bad question several. What bad ones cost is measured and not calculated: the requests
//! so far, less those that full chunks would have taken. How sure that is depends on how
//! many searches it comes from, and on how evenly they are spread over what was done.
//!
//! What comes is believed to be like what was seen; a manifest whose end is unlike its
//! beginning surprises, and the range follows as soon as it shows.

mod isolation_cost;
mod run_progress;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use isolation_cost::IsolationCost;
pub use run_progress::RunProgress;

/// How many stretches of a run are kept apart.
const STRETCHES: usize = 16;
/// How many jobs a stretch has at first.
const STRETCH_JOBS: u64 = 64;
/// Several searches are under way at once: so many answers without a bad one end a row.
const ROW_ANSWERS: u8 = 2;
/// Ends of the range, in standard deviations of a normal distribution: nine in ten, and
/// some more for what the model does not know.
const WIDTH: f64 = 2.0;

/// How far below the limit requests leave.
const MARGIN: f64 = 1.02;

/// What became of some jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Segment {
    good: u64,
    bad: u64,
    requests: u64,
    /// Rows of bad ones that began.
    rows: u64,
}

/// What the answers so far said of the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// Jobs that succeeded.
    pub good: u64,
    /// Jobs that failed.
    pub bad: u64,
    /// Requests that it took, those refused as too fast not counted.
    pub requests: u64,
    /// The same apart, in the order in which it was seen; empty if only the sums are known.
    stretches: [Segment; STRETCHES],
    /// How many of the stretches are begun.
    begun: usize,
    /// After so many more answers without a bad one the next is of another row.
    row_answers: u8,
}

/// How fast requests leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SendRate {
    /// Requests a second that reach the questions while the gate is open, above 0.
    pub rate: f64,
    /// From leaving to the answer.
    pub latency: Duration,
    /// How often the gate was closed.
    pub closings: u64,
    /// For how long, all closings together.
    pub closed: Duration,
    /// In how many requests that was.
    pub requests: u64,
}

/// What is expected of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eta {
    /// Requests still to be sent.
    pub requests: RangeInclusive<u64>,
    /// Until the last answer.
    pub time: RangeInclusive<Duration>,
}

impl Observed {
    /// What was seen in another run, or nobody knows in what order.
    pub fn from_totals(good: u64, bad: u64, requests: u64) -> Self {
        Self { good, bad, requests, ..Self::default() }
    }

    /// Takes in how far a run is: jobs that succeeded, jobs that failed, and requests that
    /// it took, since its beginning. Only for what was not made by [`Observed::from_totals`].
    pub fn note(&mut self, good: u64, bad: u64, requests: u64) {
        let mut more = Segment {
            good: good.saturating_sub(self.good),
            bad: bad.saturating_sub(self.bad),
            requests: requests.saturating_sub(self.requests),
            rows: 0,
        };
        if more.bad > 0 {
            more.rows = u64::from(self.row_answers == 0);
            self.row_answers = ROW_ANSWERS;
        } else if more.good > 0 {
            self.row_answers = self.row_answers.saturating_sub(1);
        }
        (self.good, self.bad, self.requests) = (good, bad, requests);
        let full = self.stretch_jobs();
        if self.begun == 0 || self.stretches[self.begun - 1].jobs() >= full {
            if self.begun == STRETCHES {
                self.fold();
            }
            self.begun += 1;
        }
        self.stretches[self.begun - 1].add(more);
    }

    /// Stretches are all of the size that makes at most [`STRETCHES`] of what is done.
    fn stretch_jobs(&self) -> u64 {
        let mut jobs = STRETCH_JOBS;
        while jobs * STRETCHES as u64 <= self.good + self.bad {
            jobs *= 2;
        }
        jobs
    }

    /// How many jobs a chunk has: fewer than the `most` asked for if the service takes
    /// fewer, which shows where nobody was bad.
    fn chunk_jobs(&self, most: u64) -> u64 {
        let jobs = self.good + self.bad;
        let expected = jobs.div_ceil(most);
        if self.begun > 0 && self.bad == 0 && self.requests > expected * 5 / 4 + 10 {
            return (jobs / self.requests).clamp(1, most);
        }
        most
    }

    /// Makes one of every two.
    fn fold(&mut self) {
        for at in 0..STRETCHES / 2 {
            let mut two = self.stretches[2 * at];
            two.add(self.stretches[2 * at + 1]);
            self.stretches[at] = two;
        }
        self.begun = STRETCHES / 2;
        self.stretches[self.begun..].fill(Segment::default());
    }
}

impl Segment {
    fn jobs(self) -> u64 {
        self.good + self.bad
    }

    fn add(&mut self, more: Self) {
        self.good += more.good;
        self.bad += more.bad;
        self.requests += more.requests;
        self.rows += more.rows;
    }
}

impl SendRate {
    /// What is to be expected of a limit of `rate` requests a second, above 0, of which
    /// nothing was seen yet: requests leave a little below it.
    pub fn from_limit(rate: f64) -> Self {
        Self {
            rate: rate / MARGIN,
            latency: Duration::ZERO,
            closings: 0,
            closed: Duration::ZERO,
            requests: 0,
        }
    }
}

/// What the rest takes: `open` jobs by status, in chunks of at most `chunk_jobs_max` (at
/// least 1).
pub fn forecast(open: [u64; 3], chunk_jobs_max: usize, seen: Observed, speed: SendRate) -> Eta {
    let jobs: u64 = open.iter().sum();
    if jobs == 0 {
        return Eta { requests: 0..=0, time: Duration::ZERO..=Duration::ZERO };
    }
    let chunk = seen.chunk_jobs(chunk_jobs_max.max(1) as u64);
    let chunks = real(open.iter().map(|jobs| jobs.div_ceil(chunk)).sum());
    let extra = IsolationCost::seen_in(&seen, real(chunk)).further(real(jobs), chunks);
    let requests =
        Range { low: chunks + extra.low, mean: chunks + extra.mean, high: chunks + extra.high };
    let time = time(requests, speed);
    Eta {
        requests: whole(requests.low.floor())..=whole(requests.high.ceil()),
        time: Duration::from_secs_f64(time.low)..=Duration::from_secs_f64(time.high),
    }
}

/// A quantity that is not known for sure, at least 0.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    mean: f64,
    high: f64,
}

impl Range {
    /// By mean and variance, as of a gamma distribution, in the approximation of Wilson
    /// and Hilferty.
    fn gamma(mean: f64, relative_variance: f64) -> Self {
        let ninth = relative_variance / 9.0;
        let end = |side: f64| mean * (1.0 - ninth + side * WIDTH * ninth.sqrt()).max(0.0).powi(3);
        Self { low: end(-1.0).min(mean), mean, high: end(1.0).max(mean) }
    }
}

/// Seconds that `requests` take.
fn time(requests: Range, speed: SendRate) -> Range {
    /// How far the rate may be from what was measured, as a factor; the pace goes on
    /// learning from refusals.
    const DRIFT: f64 = 1.02;
    const DRIFT_MAX: f64 = 1.1;
    /// Requests that may have left already when the jobs in them still count as open.
    const LEFT: f64 = 2.0;
    /// Steps of the last search, which has nobody to share its slots with.
    const LAST_STEPS: f64 = 6.0;
    let (gap, latency) = (1.0 / speed.rate, speed.latency.as_secs_f64());
    let open = requests.mean * gap;
    let drift = (DRIFT + real(speed.closings) / real(speed.requests.max(1))).min(DRIFT_MAX);
    let shut = closed(requests.mean, speed);
    let low = (requests.low - LEFT).max(0.0) * gap / drift + closed(requests.low, speed).low;
    let last = latency + LAST_STEPS * (latency - gap).max(0.0);
    let slow = (requests.high + 1.0) * gap * drift + last - open;
    let mean = open + shut.mean;
    // Both at their worst is rarer than either.
    Range { low: low.min(mean), mean, high: mean + slow.hypot(shut.high - shut.mean) }
}

/// Seconds for which the gate will be closed while `requests` leave.
fn closed(requests: f64, speed: SendRate) -> Range {
    /// Before any was seen: half a closing in 250 requests, of two seconds.
    const PRIOR: f64 = 0.5;
    const PRIOR_REQUESTS: f64 = 250.0;
    const PRIOR_SECONDS: f64 = 2.0;
    /// Closings bring closings.
    const UNEVEN: f64 = 1.5;
    let seen = real(speed.closings);
    let share = (seen + PRIOR) / (real(speed.requests) + PRIOR_REQUESTS / (1.0 + seen / PRIOR));
    let each = (speed.closed.as_secs_f64() + PRIOR * PRIOR_SECONDS) / (seen + PRIOR);
    let expected = (share * requests).max(1e-9);
    let mut closed = Range::gamma(expected * each, 1.0 / (seen + PRIOR) + UNEVEN / expected);
    if speed.closings == 0 {
        closed.low = 0.0;
    }
    closed
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn real(n: u64) -> f64 {
    n as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0")]
fn whole(n: f64) -> u64 {
    n as u64
}
