//! Which jobs to send together after a chunk was refused: finds the bad ones in it.
//!
//! Pure: outcomes in, next chunk out; no clock, no IO. All searches of a run live in one
//! value, so that a slot that one search cannot use goes to another. A refused chunk is
//! halved and both halves are asked, oldest first, until the refused ones stand alone; the
//! interface leaves room for a search that infers what it need not ask.

use std::collections::VecDeque;

use crate::job::{JobId, Status};

/// Jobs that go out together, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The status all of them shall have.
    pub status: Status,
    /// The jobs, at least one.
    pub ids: Vec<JobId>,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service took all of it.
    Applied,
    /// The service refused it as a whole.
    Refused,
}

/// The searches under way.
#[derive(Debug, Default)]
pub struct Isolate {
    /// Groups to be asked, oldest first.
    untried: VecDeque<Group>,
}

impl Isolate {
    /// Takes in what became of a group, given out by [`Isolate::next`] or not. A refused
    /// job that stood alone needs no search.
    pub fn record(&mut self, group: Group, outcome: Outcome) {
        if outcome == Outcome::Refused && group.ids.len() > 1 {
            let Group { status, ids: mut first } = group;
            let second = first.split_off(first.len() / 2);
            self.untried.push_back(Group { status, ids: first });
            self.untried.push_back(Group { status, ids: second });
        }
    }

    /// The group to ask next; `None` when no search needs one now.
    pub fn next_group(&mut self) -> Option<Group> {
        self.untried.pop_front()
    }

    /// Whether nothing is left to ask.
    pub fn is_empty(&self) -> bool {
        self.untried.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Settles `ids` against a service that refuses any group with a bad one in it;
    /// answers come back in the order that `choices` picks. Returns the ids applied, the
    /// ids refused alone, and the requests made.
    fn settle(
        ids: Vec<JobId>,
        bad: &BTreeSet<JobId>,
        mut choices: impl FnMut(usize) -> usize,
    ) -> (BTreeSet<JobId>, BTreeSet<JobId>, usize) {
        let mut isolate = Isolate::default();
        let mut flying = vec![Group { status: Status::Disable, ids }];
        let (mut applied, mut refused, mut requests) = (BTreeSet::new(), BTreeSet::new(), 0);
        while !flying.is_empty() {
            let group = flying.swap_remove(choices(flying.len()));
            requests += 1;
            let outcome = if group.ids.iter().any(|id| bad.contains(id)) {
                Outcome::Refused
            } else {
                Outcome::Applied
            };
            match (outcome, group.ids.as_slice()) {
                (Outcome::Applied, ids) => applied.extend(ids),
                (Outcome::Refused, [alone]) => assert!(refused.insert(*alone), "failed twice"),
                (Outcome::Refused, _) => {}
            }
            isolate.record(group, outcome);
            flying.extend(std::iter::from_fn(|| isolate.next_group()).take(3));
        }
        assert!(isolate.is_empty());
        (applied, refused, requests)
    }

    #[test]
    fn one_bad_id_in_a_hundred_costs_two_requests_a_halving() {
        let (applied, refused, requests) = settle((1..=100).collect(), &[37].into(), |_| 0);
        assert_eq!((applied.len(), refused), (99, [37].into()));
        assert!(requests <= 1 + 2 * 7, "{requests}");
    }

    proptest! {
        #[test]
        fn every_good_id_is_applied_and_every_bad_one_stands_alone(
            count in 1_i64..300,
            bad in prop::collection::btree_set(1_i64..300, 0..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
        ) {
            let ids: Vec<JobId> = (1..=count).collect();
            let bad: BTreeSet<JobId> = bad.into_iter().filter(|id| *id <= count).collect();
            let mut at = 0;
            let (applied, refused, requests) = settle(ids.clone(), &bad, |len| {
                at += 1;
                order[at % order.len()].index(len)
            });
            let good: BTreeSet<JobId> = ids.into_iter().filter(|id| !bad.contains(id)).collect();
            prop_assert_eq!(applied, good);
            prop_assert_eq!(&refused, &bad);
            // Each bad id costs at most two requests for each halving above it.
            prop_assert!(requests <= 1 + bad.len() * 2 * 9);
        }
    }
}
