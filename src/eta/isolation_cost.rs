//! The cost of isolation: measured on the jobs so far, as a range for the remaining ones.
//!
//! The cost so far is the number of requests beyond full chunks. Its reliability depends on the number of
//! isolations, because bad questions may be adjacent, and on how evenly they are spread. If the manifest has
//! clearly changed, only the jobs after the change count.

use super::{Observed, Range, Segment, real};

/// If the probability of no further bad question is less than this, the range leaves that case out.
const NONE_CHANCE: f64 = 0.04;
/// If the probability of a further bad question is more than this, the range includes a whole cluster of
/// them.
const CLUSTER_CHANCE: f64 = 0.1;
/// The prior: half an isolation in 200 jobs.
const PRIOR_ISOLATIONS: f64 = 0.5;
const PRIOR_JOBS: f64 = 200.0;
/// The prior cost of an isolation, as a multiple of the cost for a single bad question: bad questions may be
/// adjacent.
const PRIOR_COST: f64 = 2.0;
/// Isolations of another run count at most this many, and their variance is assumed to be larger than that of
/// pure chance by this factor.
const HISTORY_ISOLATIONS: f64 = 20.0;
const HISTORY_UNEVEN: f64 = 1.5;
/// The first of two parts is left out if a model of two parts explains the observations this much better than
/// one, as twice the log-likelihood ratio. By chance that happens about once in a thousand runs.
const CHANGE: f64 = 14.0;

/// The isolations during some of the jobs so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsolationCost {
    /// Jobs with their outcomes, and the bad ones among them.
    jobs: f64,
    bad: f64,
    /// The number of clusters of bad questions.
    clusters: f64,
    /// The number of isolations, derived from their cost: each finds a bad question, and the other bad
    /// questions of its cluster for one request each.
    count: f64,
    /// Their weight in the comparison of segments.
    change: f64,
    /// Requests beyond full chunks.
    extra: f64,
    /// Requests for the isolation of a single bad question.
    single: f64,
    /// Requests for a cluster of half a chunk, with an isolation at either end.
    cluster: f64,
    /// The variance of their number as a multiple of that of pure chance, at least 1.
    uneven: f64,
}

impl IsolationCost {
    pub(super) fn seen_in(seen: &Observed, chunk: f64) -> Self {
        // Halving a chunk down to one question, and sending its remaining jobs in pieces.
        let single = chunk.log2() + 0.7;
        let each: Vec<Self> = seen.segments[..seen.begun]
            .iter()
            .map(|segment| Self::in_segment(*segment, chunk, single))
            .collect();
        if each.is_empty() {
            let Observed { good, bad, requests, .. } = *seen;
            let sums = Segment { good, bad, requests, clusters: bad };
            return Self::in_segment(sums, chunk, single).as_history();
        }
        let alike = &each[last_change(&each)..];
        let mut all = alike[0];
        for more in &alike[1..] {
            all.jobs += more.jobs;
            all.bad += more.bad;
            all.clusters += more.clusters;
            all.count += more.count;
            all.extra += more.extra;
        }
        if all.bad == 0.0 || all.extra == 0.0 {
            // The small first group, or an isolation that has not found its bad question yet.
            return Self { count: 0.0, extra: 0.0, ..all };
        }
        all.count = all.count.min(all.clusters).max(1.0);
        all.uneven = all.unevenness(alike);
        all
    }

    fn in_segment(segment: Segment, chunk: f64, single: f64) -> Self {
        let (jobs, bad, clusters) =
            (real(segment.jobs()), real(segment.bad), real(segment.clusters));
        let extra = (real(segment.requests) - jobs / chunk).max(0.0);
        let count = ((extra - bad) / (single - 1.0).max(0.5)).clamp(0.0, bad);
        // A cluster longer than a chunk makes its segment differ from the others.
        let change = count.min(clusters) + bad / chunk;
        let cluster = 2.0 * single + chunk / 2.0;
        Self { jobs, bad, clusters, count, change, extra, single, cluster, uneven: 1.0 }
    }

    /// Observations of another run have a lower weight, and its small chunks have none.
    fn as_history(self) -> Self {
        let weight = HISTORY_ISOLATIONS / self.count.max(HISTORY_ISOLATIONS);
        Self {
            jobs: self.jobs * weight,
            count: self.count * weight,
            extra: self.extra.min(self.bad * (self.single + 1.0)) * weight,
            uneven: HISTORY_UNEVEN,
            ..self
        }
    }

    /// The variance of the cost of the segments as a multiple of that of pure chance.
    fn unevenness(&self, segments: &[Self]) -> f64 {
        /// The prior: this many segments with this factor.
        const PRIOR: (f64, f64) = (4.0, 1.5);
        let cost = self.extra / self.count;
        let off = |one: &Self| {
            let expected = self.extra * one.jobs / self.jobs.max(1.0);
            (one.extra - expected).powi(2) / (expected * cost).max(1e-9)
        };
        let sum: f64 = segments.iter().map(off).sum();
        let free = real(segments.len() as u64) - 1.0;
        ((sum + PRIOR.0 * PRIOR.1) / (free + PRIOR.0)).max(1.0)
    }

    /// The requests beyond the full `chunks` for isolations among `jobs` more jobs: their number, with the
    /// prior, times the cost of one.
    pub(super) fn further(self, jobs: f64, chunks: f64) -> Range {
        // Observations soon outweigh the prior.
        let prior = PRIOR_ISOLATIONS / (1.0 + self.count);
        let cost = (self.extra + prior * PRIOR_COST * self.single) / (self.count + prior);
        let prior_jobs = PRIOR_JOBS / (1.0 + self.count / PRIOR_ISOLATIONS);
        let share = (self.count + PRIOR_ISOLATIONS) / (self.jobs + prior_jobs);
        // The share is uncertain because it comes from few isolations, and their future number varies.
        let known = self.count / self.uneven;
        let variance = 1.0 / (known + PRIOR_ISOLATIONS) + self.uneven / (share * jobs);
        let mut extra = Range::gamma(share * jobs * cost, variance);
        let none = |searches: f64| (self.jobs / (self.jobs + jobs)).powf(searches);
        if none(known) > NONE_CHANCE {
            extra.low = 0.0;
        }
        if 1.0 - none(known + PRIOR_ISOLATIONS) > CLUSTER_CHANCE {
            extra.high = extra.high.max(self.cluster);
        }
        // Even if every question is bad, a job takes hardly more than one request.
        let most = (jobs * 1.03 - chunks).max(0.0) + self.single;
        Range { low: extra.low.min(most), mean: extra.mean.min(most), high: extra.high.min(most) }
    }
}

/// The index of the first segment after the last clear change; 0 without a change.
fn last_change(each: &[IsolationCost]) -> usize {
    let sum = |part: &[IsolationCost]| {
        part.iter().fold((0.0, 0.0), |(n, jobs), one| (n + one.change, jobs + one.jobs))
    };
    let (count, jobs) = sum(each);
    let surprise = |(n, part): (f64, f64)| {
        let expected = count * part / jobs.max(1.0);
        if n > 0.0 { n * (n / expected).ln() } else { 0.0 }
    };
    let ratio = |at: usize| 2.0 * (surprise(sum(&each[..at])) + surprise(sum(&each[at..])));
    let best = (1..each.len()).max_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    best.filter(|at| ratio(*at) > CHANGE).unwrap_or(0)
}
