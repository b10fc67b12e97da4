//! Searches settle queues in few requests, and nobody ends as what they are not.

use std::collections::BTreeSet;

use deskbatch::job::JobId;
use proptest::prelude::*;

use crate::simulated_queue::{
    PROMISED, Service, placement, requests_of_placements, settle, settle_in_order,
};

#[test]
fn ten_thousand_ids_cost_no_more_requests_than_promised() {
    let missed: Vec<String> = PROMISED
        .into_iter()
        .map(|(bad, stretch, most)| (bad, stretch, most, requests_of_placements(bad, stretch)[20]))
        .filter(|(.., most, median)| median > most)
        .map(|(bad, stretch, most, median)| format!("{bad} in {stretch}s: {median}, not {most}"))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_queue_that_is_bad_throughout_costs_little_more_than_one_request_an_id() {
    let bad: BTreeSet<JobId> = (1..=2_000).collect();
    let settled = settle_in_order(2_000, &bad);
    assert_eq!(settled.failed, bad);
    assert!(settled.requests <= 2_020, "{}", settled.requests);
}

#[test]
fn a_bad_stretch_at_the_start_does_not_make_the_rest_expensive() {
    let mut random = fastrand::Rng::with_seed(5);
    let bad: BTreeSet<JobId> = (1..=2_000).filter(|_| random.bool()).collect();
    let settled = settle_in_order(30_000, &bad);
    assert_eq!(settled.failed, bad);
    // 280 requests would carry the good rest; the bad stretch alone needs about 2,000.
    assert!(settled.requests <= 3_300, "{}", settled.requests);
}

#[test]
fn several_searches_at_once_cost_few_requests_more() {
    let bad = placement(100, 1, 3);
    let alone = settle_in_order(10_000, &bad).requests;
    let service = Service { bad: &bad, jobs_max: 100, says_size: true };
    for in_flight in [2, 4, 8] {
        let mut random = fastrand::Rng::with_seed(in_flight as u64);
        let together = settle(10_000, &service, in_flight, |len| random.usize(..len));
        assert_eq!(together.failed, bad);
        assert!(together.requests <= alone * 108 / 100, "{in_flight}: {}", together.requests);
    }
}

#[test]
fn a_group_that_was_too_large_makes_nobody_bad_whatever_the_refusal_says() {
    let bad: BTreeSet<JobId> = [77, 500].into();
    for says_size in [true, false] {
        for jobs_max in [1, 3, 30, 99] {
            let service = Service { bad: &bad, jobs_max, says_size };
            let settled = settle(600, &service, 3, |_| 0);
            assert_eq!(settled.failed, bad, "at most {jobs_max} at once");
            assert_eq!(settled.applied.len(), 598);
        }
    }
}

proptest! {
    #[test]
    fn every_good_id_is_applied_and_every_bad_one_fails_once_in_whatever_order_answers_come(
        count in 1_i64..400,
        bad in prop::collection::btree_set(1_i64..400, 0..120),
        in_flight in 1_usize..9,
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
    ) {
        let bad: BTreeSet<JobId> = bad.into_iter().filter(|id| *id <= count).collect();
        let service = Service { bad: &bad, jobs_max: 100, says_size: true };
        let mut at = 0;
        let settled = settle(count, &service, in_flight, |len| {
            at += 1;
            order[at % order.len()].index(len)
        });
        let good: BTreeSet<JobId> = (1..=count).filter(|id| !bad.contains(id)).collect();
        prop_assert_eq!(settled.applied, good);
        prop_assert_eq!(&settled.failed, &bad);
        // A full group for every hundred, one for the small first one and the last, and for
        // each bad id at most twelve: to find it, and for what its search leaves in pieces.
        let most = usize::try_from(count).unwrap().div_ceil(100) + 2 + bad.len() * 12;
        prop_assert!(settled.requests <= most, "{} of {}", settled.requests, most);
    }
}
