//! Settles queues against a service that refuses a group for any bad question in it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What a simulated run came to.
struct Settled {
    applied: BTreeSet<JobId>,
    failed: BTreeSet<JobId>,
    requests: usize,
}

/// The service: which questions are bad, and the most that it takes at once.
struct Service<'a> {
    bad: &'a BTreeSet<JobId>,
    jobs_max: usize,
    /// Whether a refusal for size looks like one for a question.
    says_size: bool,
}

impl Service<'_> {
    fn ask(&self, ids: &[JobId]) -> Outcome {
        if ids.len() > self.jobs_max {
            return Outcome::Refused { refusal: -1, of_questions: !self.says_size };
        }
        match ids.iter().find(|id| self.bad.contains(id)) {
            // The first bad one's code is the answer's, and each has a code of its own.
            Some(id) => Outcome::Refused { refusal: *id, of_questions: true },
            None => Outcome::Applied,
        }
    }
}

/// Settles jobs 1 to `count` with `in_flight` requests at once, chunks of 100; `choose`
/// picks whose answer comes next.
fn settle(
    count: JobId,
    service: &Service,
    in_flight: usize,
    mut choose: impl FnMut(usize) -> usize,
) -> Settled {
    let mut isolate = Isolate::new(100);
    let mut pool: BTreeSet<JobId> = (1..=count).collect();
    let mut flying: Vec<Group> = Vec::new();
    let mut settled = Settled { applied: BTreeSet::new(), failed: BTreeSet::new(), requests: 0 };
    let mut probing = true;
    loop {
        while flying.len() < if probing { 1 } else { in_flight } {
            let group = isolate.next_group().or_else(|| {
                let first = *pool.first()?;
                let size = isolate.free_jobs(Status::Disable, first);
                let ids: Vec<JobId> = pool.iter().copied().take(size).collect();
                for id in &ids {
                    pool.remove(id);
                }
                Some(Group::free(Status::Disable, ids))
            });
            let Some(group) = group else { break };
            flying.push(group);
        }
        if flying.is_empty() {
            assert!(pool.is_empty() && isolate.is_empty());
            return settled;
        }
        probing = false;
        let group = flying.swap_remove(choose(flying.len()));
        settled.requests += 1;
        let outcome = service.ask(&group.ids);
        let alone = (group.ids.len() == 1).then(|| group.ids[0]);
        match (outcome, alone) {
            (Outcome::Applied, _) => settled.applied.extend(&group.ids),
            (_, Some(id)) => assert!(settled.failed.insert(id), "{id} failed twice"),
            _ => {}
        }
        let findings = isolate.record(group, outcome);
        pool.extend(findings.freed);
        if let Some((id, refusal)) = findings.bad {
            assert_eq!(refusal, id, "has another's code");
            assert!(settled.failed.insert(id), "{id} failed twice");
        }
    }
}

fn settle_in_order(count: JobId, bad: &BTreeSet<JobId>) -> Settled {
    settle(count, &Service { bad, jobs_max: 100, says_size: true }, 1, |_| 0)
}

/// `bad` of 10,000 in stretches of `stretch`, anywhere; they may touch.
fn placement(bad: usize, stretch: i64, seed: u64) -> BTreeSet<JobId> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ids = BTreeSet::new();
    while ids.len() < bad {
        let from = random.i64(1..=10_000);
        for id in from..(from + stretch).min(10_001) {
            if ids.len() < bad {
                ids.insert(id);
            }
        }
    }
    ids
}

fn median_requests(bad: usize, stretch: i64) -> usize {
    let mut requests: Vec<usize> = (0..41)
        .map(|seed| {
            let bad = placement(bad, stretch, seed);
            let settled = settle_in_order(10_000, &bad);
            assert_eq!(settled.failed, bad);
            settled.requests
        })
        .collect();
    requests.sort_unstable();
    requests[20]
}

#[test]
fn ten_thousand_ids_cost_no_more_requests_than_promised() {
    let promised = [
        (0, 1, 102),
        (1, 1, 112),
        (10, 1, 178),
        (100, 1, 850),
        (1_000, 1, 5_000),
        (100, 2, 660),
        (100, 3, 540),
        (100, 10, 335),
        (100, 30, 260),
    ];
    let missed: Vec<String> = promised
        .into_iter()
        .map(|(bad, stretch, most)| (bad, stretch, most, median_requests(bad, stretch)))
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
