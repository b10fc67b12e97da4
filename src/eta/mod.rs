//! The ETA: the estimated range of the remaining requests and of the remaining time.
//!
//! Pure: takes the open jobs and the observations so far, returns a range. It counts requests and not jobs,
//! because slots are the scarce resource: a full chunk takes one, a bad question several. The cost of bad
//! questions is measured: it is the number of requests so far minus the number that full chunks would have
//! taken. The width of the range depends on the number of isolations behind that cost, and on how evenly they
//! are spread.
//!
//! The estimate assumes that the remaining jobs are like those observed. If the end of a manifest differs
//! from its beginning, the range adapts once responses show the difference.

mod isolation_cost;
mod run_progress;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use isolation_cost::IsolationCost;
pub use run_progress::RunProgress;

/// The number of segments of a run.
const SEGMENTS: usize = 16;
/// The initial number of jobs in a segment.
const SEGMENT_JOBS: u64 = 64;
/// Several isolations run at once: this number of responses without a bad question ends a cluster.
const CLUSTER_RESPONSES: u8 = 2;
/// The ends of the range, in standard deviations of a normal distribution. It is wider than a 90 % range,
/// because the model omits some effects.
const WIDTH: f64 = 2.0;

/// The rate limit divided by the rate at which requests leave.
const MARGIN: f64 = 1.02;

/// The outcomes of consecutive jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Segment {
    good: u64,
    bad: u64,
    requests: u64,
    /// Clusters of adjacent bad questions that began.
    clusters: u64,
}

/// What the responses so far show about the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// Jobs that succeeded.
    pub good: u64,
    /// Jobs that failed.
    pub bad: u64,
    /// Requests, without throttled ones.
    pub requests: u64,
    /// The same counts by segment, oldest first; empty if only the sums are known.
    segments: [Segment; SEGMENTS],
    /// The number of segments that have begun.
    begun: usize,
    /// After this many more responses without a bad question, the next bad question starts another cluster.
    cluster_responses: u8,
}

/// How fast requests leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SendRate {
    /// Evaluated requests a second while the rate limiter is open, above 0.
    pub rate: f64,
    /// The time from sending to the response.
    pub latency: Duration,
    /// The number of times that the rate limiter closed.
    pub closings: u64,
    /// The total time for which it was closed.
    pub closed: Duration,
    /// The number of requests during these observations.
    pub requests: u64,
}

/// The estimate for the remaining jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eta {
    /// Requests still to be sent.
    pub requests: RangeInclusive<u64>,
    /// The time until the last response.
    pub time: RangeInclusive<Duration>,
}

impl Observed {
    /// The totals of another run, without the order of its outcomes.
    pub fn from_totals(good: u64, bad: u64, requests: u64) -> Self {
        Self { good, bad, requests, ..Self::default() }
    }

    /// Records the totals of a run so far: succeeded jobs, failed jobs, and requests. Not for a value from
    /// [`Observed::from_totals`].
    pub fn record(&mut self, good: u64, bad: u64, requests: u64) {
        let mut more = Segment {
            good: good.saturating_sub(self.good),
            bad: bad.saturating_sub(self.bad),
            requests: requests.saturating_sub(self.requests),
            clusters: 0,
        };
        if more.bad > 0 {
            more.clusters = u64::from(self.cluster_responses == 0);
            self.cluster_responses = CLUSTER_RESPONSES;
        } else if more.good > 0 {
            self.cluster_responses = self.cluster_responses.saturating_sub(1);
        }
        (self.good, self.bad, self.requests) = (good, bad, requests);
        let full = self.segment_jobs();
        if self.begun == 0 || self.segments[self.begun - 1].jobs() >= full {
            if self.begun == SEGMENTS {
                self.fold();
            }
            self.begun += 1;
        }
        self.segments[self.begun - 1].add(more);
    }

    /// The size of a segment, such that the jobs so far fill at most [`SEGMENTS`] of them.
    fn segment_jobs(&self) -> u64 {
        let mut jobs = SEGMENT_JOBS;
        while jobs * SEGMENTS as u64 <= self.good + self.bad {
            jobs *= 2;
        }
        jobs
    }

    /// The number of jobs in a chunk. It is less than `most` if the service accepts fewer, which is visible
    /// only while no question is bad.
    fn chunk_jobs(&self, most: u64) -> u64 {
        let jobs = self.good + self.bad;
        let expected = jobs.div_ceil(most);
        if self.begun > 0 && self.bad == 0 && self.requests > expected * 5 / 4 + 10 {
            return (jobs / self.requests).clamp(1, most);
        }
        most
    }

    /// Merges the segments in pairs.
    fn fold(&mut self) {
        for at in 0..SEGMENTS / 2 {
            let mut two = self.segments[2 * at];
            two.add(self.segments[2 * at + 1]);
            self.segments[at] = two;
        }
        self.begun = SEGMENTS / 2;
        self.segments[self.begun..].fill(Segment::default());
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
        self.clusters += more.clusters;
    }
}

impl SendRate {
    /// The expected rate under a limit of `rate` requests a second (above 0) before the first observation: a
    /// little below the limit.
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

/// Estimates `open` jobs by target status, in chunks of at most `chunk_jobs_max` (at least 1).
pub fn estimate(open: [u64; 3], chunk_jobs_max: usize, seen: Observed, speed: SendRate) -> Eta {
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

/// An estimated quantity, at least 0.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    mean: f64,
    high: f64,
}

impl Range {
    /// A range from mean and variance of a gamma distribution, by the approximation of Wilson and Hilferty.
    fn gamma(mean: f64, relative_variance: f64) -> Self {
        let ninth = relative_variance / 9.0;
        let end = |side: f64| mean * (1.0 - ninth + side * WIDTH * ninth.sqrt()).max(0.0).powi(3);
        Self { low: end(-1.0).min(mean), mean, high: end(1.0).max(mean) }
    }
}

/// The seconds that `requests` take.
fn time(requests: Range, speed: SendRate) -> Range {
    /// The factor by which the rate may differ from the measured one: the pacer keeps learning.
    const DRIFT: f64 = 1.02;
    const DRIFT_MAX: f64 = 1.1;
    /// Requests in flight, whose jobs still count as open.
    const LEFT: f64 = 2.0;
    /// Steps of the last isolation, which is the only one to use slots.
    const LAST_STEPS: f64 = 6.0;
    let (gap, latency) = (1.0 / speed.rate, speed.latency.as_secs_f64());
    let open = requests.mean * gap;
    let drift = (DRIFT + real(speed.closings) / real(speed.requests.max(1))).min(DRIFT_MAX);
    let shut = closed(requests.mean, speed);
    let low = (requests.low - LEFT).max(0.0) * gap / drift + closed(requests.low, speed).low;
    let last = latency + LAST_STEPS * (latency - gap).max(0.0);
    let slow = (requests.high + 1.0) * gap * drift + last - open;
    let mean = open + shut.mean;
    // Both extremes together are less likely than either alone.
    Range { low: low.min(mean), mean, high: mean + slow.hypot(shut.high - shut.mean) }
}

/// The seconds for which the rate limiter is closed while `requests` are sent.
fn closed(requests: f64, speed: SendRate) -> Range {
    /// The prior: half a closing in 250 requests, of two seconds.
    const PRIOR: f64 = 0.5;
    const PRIOR_REQUESTS: f64 = 250.0;
    const PRIOR_SECONDS: f64 = 2.0;
    /// Closings cluster: their variance exceeds that of pure chance by this factor.
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
