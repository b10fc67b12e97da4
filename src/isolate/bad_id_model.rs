//! The probability that the next question is bad, learned from the results of the earlier ones.
//!
//! Bad questions are rare or frequent, and single or adjacent, as in sorted exports. Two rates describe both:
//! how often a question is bad after a good one, and after a bad one. Old results fade, so that many bad
//! questions at the start of a manifest do not keep the groups small until its end.

use std::collections::BTreeSet;

use crate::domain::job::JobId;

/// The prior: one in 400 after a good question, with the weight of 200 results; one in five after a bad
/// question, with the weight of one and a half.
const AFTER_GOOD: BadRate = BadRate { bad: 0.5, good: 200.0 };
const AFTER_BAD: BadRate = BadRate { bad: 0.3, good: 1.2 };

/// After this number of questions an old result has about a third of its weight.
const MEMORY: f64 = 1_000.0;

/// Fading counts of bad and good questions.
#[derive(Debug, Clone, Copy)]
struct BadRate {
    bad: f64,
    good: f64,
}

impl BadRate {
    fn rate(self) -> f64 {
        self.bad / (self.bad + self.good)
    }

    /// Adds one result; older ones fade toward `prior`.
    fn learn(&mut self, bad: bool, prior: Self, keep: f64) {
        self.bad = prior.bad + (self.bad - prior.bad) * keep;
        self.good = prior.good + (self.good - prior.good) * keep;
        if bad {
            self.bad += 1.0;
        } else {
            self.good += 1.0;
        }
    }
}

/// The learned rates for one target status.
#[derive(Debug)]
pub(super) struct BadIdModel {
    after_good: BadRate,
    after_bad: BadRate,
    /// The bad questions: their neighbours are more likely to be bad.
    bad: BTreeSet<JobId>,
}

impl BadIdModel {
    pub(super) fn new() -> Self {
        Self { after_good: AFTER_GOOD, after_bad: AFTER_BAD, bad: BTreeSet::new() }
    }

    /// Records one question. A question that is inferred to be bad and then rejected alone counts once. A
    /// question that is applied after all is no longer bad.
    pub(super) fn learn(&mut self, id: JobId, bad: bool) {
        let was_bad = if bad { self.bad.contains(&id) } else { self.bad.remove(&id) };
        if bad && was_bad {
            return;
        }
        let keep = 1.0 - 1.0 / MEMORY;
        if self.follows_bad(id) {
            self.after_bad.learn(bad, AFTER_BAD, keep);
        } else {
            self.after_good.learn(bad, AFTER_GOOD, keep);
        }
        if bad {
            self.bad.insert(id);
        }
    }

    /// Whether the preceding question in the manifest is bad: job ids follow the manifest.
    fn follows_bad(&self, id: JobId) -> bool {
        self.bad.contains(&(id - 1))
    }

    fn chance_good(&self, id: JobId) -> f64 {
        let (rare, near) = (self.after_good.rate(), self.after_bad.rate());
        1.0 - if self.follows_bad(id) { near.max(rare) } else { rare }
    }

    /// The number of questions to send at once, at most `most`, if `first` is the first of them. The group is
    /// as large as possible with an even chance that all are good, because such a response gives the most
    /// information. A full request is sent at a somewhat lower chance, because it can complete many jobs.
    pub(super) fn group_size(&self, first: JobId, most: usize) -> usize {
        const FULL_ODDS: f64 = 0.4;
        let rest = 1.0 - self.after_good.rate();
        let start = self.chance_good(first);
        let others = f64::from(u32::try_from(most).unwrap_or(u32::MAX)) - 1.0;
        let full = start * rest.powf(others);
        if full >= FULL_ODDS {
            return most;
        }
        if start <= 0.5 {
            return 1;
        }
        // start · rest^(n−1) ≥ ½
        let more = (0.5 / start).ln() / rest.ln();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to most")]
        let more = more.clamp(0.0, others) as usize;
        1 + more
    }

    /// The index at which to cut `ids`, of which at least one is bad, so that either part contains the first
    /// bad one with an even chance. At least 1, and less than the number of `ids`, which is 2 or more.
    pub(super) fn cut(&self, ids: &[JobId]) -> usize {
        let mut good = 1.0;
        let good_up_to: Vec<f64> = ids
            .iter()
            .map(|id| {
                good *= self.chance_good(*id);
                good
            })
            .collect();
        let some_bad = 1.0 - good;
        let off = |k: &usize| ((1.0 - good_up_to[k - 1]) / some_bad - 0.5).abs();
        (1..ids.len()).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(1)
    }
}
