//! What the search for bad ones costs: measured on what was done, as a range for what is
//! left.
//!
//! What it cost so far are the requests beyond full chunks. How far that can be relied on
//! for the rest depends on how many searches it comes from, since bad ones may stand in
//! rows, and on how evenly these are spread; where the manifest has clearly changed, only
//! what came after the change counts.

use super::{Observed, Range, Segment, real};

/// Below this chance a run without any further bad one is left out of the range.
const NONE_CHANCE: f64 = 0.04;
/// Above this chance that a bad one comes at all, a whole row of them is in the range.
const ROW_CHANCE: f64 = 0.1;
/// Before anything is known: half a search in 200 jobs.
const PRIOR_SEARCHES: f64 = 0.5;
const PRIOR_JOBS: f64 = 200.0;
/// What a search costs beyond that of one that stands alone, before any was seen: bad ones
/// may stand together.
const PRIOR_COST: f64 = 2.0;
/// IsolationCost of another run say how it was then: no more than so many count, and they are
/// taken to vary more than chance makes them by this factor, in variance.
const HISTORY_SEARCHES: f64 = 20.0;
const HISTORY_UNEVEN: f64 = 1.5;
/// How much better two halves must explain what was seen than one whole, as a likelihood
/// ratio, for the first to be left out: by chance about once in a thousand runs.
const CHANGE: f64 = 14.0;

/// The searches for bad ones, in some of what was done.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsolationCost {
    /// Jobs that were done meanwhile, and the bad ones among them.
    jobs: f64,
    bad: f64,
    /// How many rows of bad ones there were.
    rows: f64,
    /// How many searches there were, by what they cost: each finds a bad one, and those that
    /// stand in a row with it for a request each.
    count: f64,
    /// What they say for telling one kind of stretch from another.
    change: f64,
    /// Requests beyond full chunks.
    extra: f64,
    /// Requests that one costs whose bad one stands alone.
    alone: f64,
    /// Requests that a row of half a chunk costs, with a search for each of its ends.
    row: f64,
    /// The variance of their number against that of pure chance, at least 1.
    uneven: f64,
}

impl IsolationCost {
    pub(super) fn seen_in(seen: &Observed, chunk: f64) -> Self {
        // To halve a chunk down to one question, and to send what is left of it in pieces.
        let alone = chunk.log2() + 0.7;
        let each: Vec<Self> = seen.stretches[..seen.begun]
            .iter()
            .map(|stretch| Self::in_stretch(*stretch, chunk, alone))
            .collect();
        if each.is_empty() {
            let Observed { good, bad, requests, .. } = *seen;
            let sums = Segment { good, bad, requests, rows: bad };
            return Self::in_stretch(sums, chunk, alone).of_another_time();
        }
        let alike = &each[last_change(&each)..];
        let mut all = alike[0];
        for more in &alike[1..] {
            all.jobs += more.jobs;
            all.bad += more.bad;
            all.rows += more.rows;
            all.count += more.count;
            all.extra += more.extra;
        }
        if all.bad == 0.0 || all.extra == 0.0 {
            // The small first group, or a search that has not found its bad one yet.
            return Self { count: 0.0, extra: 0.0, ..all };
        }
        all.count = all.count.min(all.rows).max(1.0);
        all.uneven = all.unevenness(alike);
        all
    }

    fn in_stretch(stretch: Segment, chunk: f64, alone: f64) -> Self {
        let (jobs, bad, rows) = (real(stretch.jobs()), real(stretch.bad), real(stretch.rows));
        let extra = (real(stretch.requests) - jobs / chunk).max(0.0);
        let count = ((extra - bad) / (alone - 1.0).max(0.5)).clamp(0.0, bad);
        // A row that is longer than a chunk is a stretch of its own kind.
        let change = count.min(rows) + bad / chunk;
        let row = 2.0 * alone + chunk / 2.0;
        Self { jobs, bad, rows, count, change, extra, alone, row, uneven: 1.0 }
    }

    /// What another run saw counts for less, and what it sent in small chunks for nothing.
    fn of_another_time(self) -> Self {
        let weight = HISTORY_SEARCHES / self.count.max(HISTORY_SEARCHES);
        Self {
            jobs: self.jobs * weight,
            count: self.count * weight,
            extra: self.extra.min(self.bad * (self.alone + 1.0)) * weight,
            uneven: HISTORY_UNEVEN,
            ..self
        }
    }

    /// The variance of what the stretches cost against that of pure chance.
    fn unevenness(&self, stretches: &[Self]) -> f64 {
        /// Stretches that are believed in before any was seen, and what they say.
        const PRIOR: (f64, f64) = (4.0, 1.5);
        let cost = self.extra / self.count;
        let off = |one: &Self| {
            let expected = self.extra * one.jobs / self.jobs.max(1.0);
            (one.extra - expected).powi(2) / (expected * cost).max(1e-9)
        };
        let sum: f64 = stretches.iter().map(off).sum();
        let free = real(stretches.len() as u64) - 1.0;
        ((sum + PRIOR.0 * PRIOR.1) / (free + PRIOR.0)).max(1.0)
    }

    /// Requests that searches among `jobs` more need beyond the full `chunks`: how many
    /// searches, with what is believed before any was seen, times what one costs.
    pub(super) fn further(self, jobs: f64, chunks: f64) -> Range {
        // What was seen soon outweighs the belief.
        let belief = PRIOR_SEARCHES / (1.0 + self.count);
        let cost = (self.extra + belief * PRIOR_COST * self.alone) / (self.count + belief);
        let prior_jobs = PRIOR_JOBS / (1.0 + self.count / PRIOR_SEARCHES);
        let share = (self.count + PRIOR_SEARCHES) / (self.jobs + prior_jobs);
        // That share is as sure as so many searches make it, and their number then varies.
        let known = self.count / self.uneven;
        let variance = 1.0 / (known + PRIOR_SEARCHES) + self.uneven / (share * jobs);
        let mut extra = Range::gamma(share * jobs * cost, variance);
        let none = |searches: f64| (self.jobs / (self.jobs + jobs)).powf(searches);
        if none(known) > NONE_CHANCE {
            extra.low = 0.0;
        }
        if 1.0 - none(known + PRIOR_SEARCHES) > ROW_CHANCE {
            extra.high = extra.high.max(self.row);
        }
        // Even if all are bad it takes hardly more than a request for each job.
        let most = (jobs * 1.03 - chunks).max(0.0) + self.alone;
        Range { low: extra.low.min(most), mean: extra.mean.min(most), high: extra.high.min(most) }
    }
}

/// Where the last stretch of time begins that is of one kind: 0 unless what comes after is
/// clearly unlike what was before.
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
