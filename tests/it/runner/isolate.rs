//! Isolation settles queues in few requests, and every job gets its true outcome.

use std::collections::BTreeSet;

use deskbatch::domain::job::JobId;
use deskbatch::domain::learned::LearnedChunkSize;
use deskbatch::isolate::RejectionScope;
use proptest::prelude::*;

use crate::runner::simulated_queue::{
    PROMISED, Service, placement, requests_of_placements, settle, settle_in_order, settle_knowing,
};

#[test]
fn isolation_of_10000_ids_meets_request_budget() {
    let missed: Vec<String> = PROMISED
        .into_iter()
        .map(|(bad, stretch, most)| (bad, stretch, most, requests_of_placements(bad, stretch)[20]))
        .filter(|(.., most, median)| median > most)
        .map(|(bad, stretch, most, median)| format!("{bad} in {stretch}s: {median}, not {most}"))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn all_bad_ids_cost_about_one_request_each() {
    let bad: BTreeSet<JobId> = (1..=2_000).collect();
    let settled = settle_in_order(2_000, &bad);
    assert_eq!(settled.failed, bad);
    assert!(settled.requests <= 2_020, "{}", settled.requests);
}

#[test]
fn bad_ids_at_start_do_not_slow_the_rest() {
    let mut random = fastrand::Rng::with_seed(5);
    let bad: BTreeSet<JobId> = (1..=2_000).filter(|_| random.bool()).collect();
    let settled = settle_in_order(30_000, &bad);
    assert_eq!(settled.failed, bad);
    // 280 requests would carry the good rest. The bad block alone needs about 2,000.
    assert!(settled.requests <= 3_300, "{}", settled.requests);
}

#[test]
fn concurrent_isolation_costs_few_extra_requests() {
    let bad = placement(100, 1, 3);
    let alone = settle_in_order(10_000, &bad).requests;
    let service = Service::new(&bad);
    for in_flight in [2, 4, 8] {
        let mut random = fastrand::Rng::with_seed(in_flight as u64);
        let together = settle(10_000, &service, in_flight, |len| random.usize(..len));
        assert_eq!(together.failed, bad);
        assert!(together.requests <= alone * 108 / 100, "{in_flight}: {}", together.requests);
    }
}

/// The code of a bad question may also be about the request as a whole. Then isolation asks its last
/// suspect too, which costs little more.
#[test]
fn ambiguous_rejection_codes_cost_few_requests() {
    for (bad, most) in [(10, 190), (100, 900)] {
        let bad = placement(bad, 1, 11);
        let blames = (RejectionScope::Request, RejectionScope::Request);
        let settled = settle(10_000, &Service { blames, ..Service::new(&bad) }, 1, |_| 0);
        assert_eq!(settled.failed, bad);
        assert!(settled.requests <= most, "{} bad: {}", bad.len(), settled.requests);
    }
}

#[test]
fn oversized_chunk_marks_no_id_as_bad() {
    let bad: BTreeSet<JobId> = [77, 500].into();
    for of_size in [RejectionScope::Questions, RejectionScope::Request] {
        for jobs_max in [1, 3, 30, 99] {
            let blames = (RejectionScope::Questions, of_size);
            let service = Service { bad: &bad, jobs_max, blames };
            let settled = settle(600, &service, 3, |_| 0);
            assert_eq!(settled.failed, bad, "at most {jobs_max} at once");
            assert_eq!(settled.applied.len(), 598);
        }
    }
}

/// Ten requests are in flight at once. While one of them tries a larger group than is known to pass,
/// the others do not.
#[test]
fn concurrent_requests_rarely_exceed_size_limit() {
    let bad = BTreeSet::new();
    for jobs_max in [7, 40, 75] {
        let service = Service { jobs_max, ..Service::new(&bad) };
        let settled = settle(3_000, &service, 10, |_| 0);
        assert_eq!(settled.applied.len(), 3_000);
        // The ten requests that left before any limit was known, their halves while those are too
        // large, and a few tries.
        assert!(settled.too_large <= 45, "{jobs_max}: {}", settled.too_large);
        let limit = LearnedChunkSize { accepted: jobs_max, rejected: jobs_max + 9 };
        let settled = settle_knowing(limit, 3_000, &service, 10, |_| 0);
        assert!(settled.too_large <= 10, "{jobs_max}: {} again", settled.too_large);
    }
}

fn blames() -> impl Strategy<Value = RejectionScope> {
    prop::sample::select(vec![RejectionScope::Questions, RejectionScope::Request])
}

proptest! {
    #[test]
    fn isolation_is_correct_in_any_response_order(
        count in 1_i64..400,
        bad in prop::collection::btree_set(1_i64..400, 0..120),
        in_flight in 1_usize..9,
        jobs_max in prop_oneof![Just(100_usize), 1_usize..130],
        blames in (blames(), blames()),
        known in prop::option::of((0_usize..150, 0_usize..150)),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
    ) {
        let bad: BTreeSet<JobId> = bad.into_iter().filter(|id| *id <= count).collect();
        let service = Service { bad: &bad, jobs_max, blames };
        let mut at = 0;
        let choose = |len: usize| {
            at += 1;
            order[at % order.len()].index(len)
        };
        let settled = match known {
            None => settle(count, &service, in_flight, choose),
            Some((passed, too_many)) => {
                settle_knowing(LearnedChunkSize { accepted: passed, rejected: too_many }, count, &service, in_flight, choose)
            }
        };
        let good: BTreeSet<JobId> = (1..=count).filter(|id| !bad.contains(id)).collect();
        prop_assert_eq!(settled.applied, good);
        prop_assert_eq!(&settled.failed, &bad);
        let count = usize::try_from(count).unwrap();
        let most = if jobs_max >= 100 && known.is_none() {
            // A full group for every hundred jobs, the small first one and the last one. Each bad id
            // costs at most thirteen: to find it, and for the groups that isolation splits.
            count.div_ceil(100) + 2 + bad.len() * 13
        } else {
            // The size limit is searched for as well, or the groups are smaller than the service
            // requires.
            count.min(3 * count.div_ceil(jobs_max.min(100)) + 200) + 2 + bad.len() * 13 + in_flight * 30
        };
        prop_assert!(settled.requests <= most, "{} of {}", settled.requests, most);
    }
}
