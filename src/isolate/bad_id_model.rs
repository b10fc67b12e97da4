//! How likely the next question is bad: learned from what became of those before it.
//!
//! Bad questions are rare or not, and they stand alone or together, as in sorted exports.
//! Two shares say both: how often a question is bad after a good one, and after a bad one.
//! What is learned fades, so that a bad stretch at the start of a manifest does not make
//! the groups small for the rest of it.

use std::collections::BTreeSet;

use crate::domain::job::JobId;

/// What is believed before anything is known: one in 400 after a good one, with the weight
/// of 200 seen; one in five after a bad one, with the weight of one and a half.
const AFTER_GOOD: Share = Share { bad: 0.5, good: 200.0 };
const AFTER_BAD: Share = Share { bad: 0.3, good: 1.2 };

/// How many questions it takes for what was learned to fade to about a third.
const MEMORY: f64 = 1_000.0;

/// Counts of bad and good, with fractions, since they fade.
#[derive(Debug, Clone, Copy)]
struct Share {
    bad: f64,
    good: f64,
}

impl Share {
    fn of_bad(self) -> f64 {
        self.bad / (self.bad + self.good)
    }

    /// Takes in one more; older ones fade toward `prior`.
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

/// What is known of the questions of one status.
#[derive(Debug)]
pub(super) struct Model {
    after_good: Share,
    after_bad: Share,
    /// The bad ones; who stands next to them is suspected more.
    bad: BTreeSet<JobId>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self { after_good: AFTER_GOOD, after_bad: AFTER_BAD, bad: BTreeSet::new() }
    }

    /// Takes in what became of one question. One that was inferred to be bad is counted once,
    /// and no longer if it passes after all.
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

    /// Neighbours in the queue are neighbours in the manifest.
    fn follows_bad(&self, id: JobId) -> bool {
        self.bad.contains(&(id - 1))
    }

    fn chance_good(&self, id: JobId) -> f64 {
        let (rare, near) = (self.after_good.of_bad(), self.after_bad.of_bad());
        1.0 - if self.follows_bad(id) { near.max(rare) } else { rare }
    }

    /// How many questions to ask at once, at most `most`, when `first` is the first of
    /// them: as many as are all good with even odds, for then an answer tells most. A few
    /// more to fill the request, since what passes is done.
    pub(super) fn group_size(&self, first: JobId, most: usize) -> usize {
        /// Below even odds, since a full request is worth something too.
        const FULL_ODDS: f64 = 0.4;
        let rest = 1.0 - self.after_good.of_bad();
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

    /// Where to cut `ids`, of which at least one is bad, so that the first bad one stands
    /// in either part with even odds. At least 1, less than their number, which is 2 or more.
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
