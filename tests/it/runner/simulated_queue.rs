//! A queue and a service in virtual time that rejects a group for any bad question in it. Counts the
//! requests of an isolation. The benchmarks use this file too.

use std::collections::BTreeSet;

use deskbatch::domain::job::{JobId, TargetStatus};
use deskbatch::domain::learned::LearnedChunkSize;
use deskbatch::isolate::{Group, GroupResult, Isolate, RejectionScope};

/// The result of a simulated queue.
pub struct Settled {
    /// Questions that were applied.
    pub applied: BTreeSet<JobId>,
    /// Questions that failed, each with its own code.
    pub failed: BTreeSet<JobId>,
    /// The number of requests.
    pub requests: usize,
    /// Requests that were too large.
    pub too_large: usize,
}

/// The service: its bad questions and its size limit.
pub struct Service<'a> {
    pub bad: &'a BTreeSet<JobId>,
    /// The most questions per request.
    pub jobs_max: usize,
    /// The scope of a rejection for a bad question, and of one for size.
    pub blames: (RejectionScope, RejectionScope),
}

impl<'a> Service<'a> {
    /// A service that takes 100 at once and whose codes are unambiguous.
    pub fn new(bad: &'a BTreeSet<JobId>) -> Self {
        Self { bad, jobs_max: 100, blames: (RejectionScope::Questions, RejectionScope::Request) }
    }

    fn ask(&self, ids: &[JobId]) -> GroupResult {
        if ids.len() > self.jobs_max {
            return GroupResult::Rejected { rejection: -1, scope: self.blames.1 };
        }
        match ids.iter().find(|id| self.bad.contains(id)) {
            // The first bad question decides the code of the response. Each one has a code of its own.
            Some(id) => GroupResult::Rejected { rejection: *id, scope: self.blames.0 },
            None => GroupResult::Applied,
        }
    }
}

/// Settles jobs 1 to `count` with `in_flight` concurrent requests and chunks of 100. `choose` picks the
/// request whose response comes next.
pub fn settle(
    count: JobId,
    service: &Service,
    in_flight: usize,
    choose: impl FnMut(usize) -> usize,
) -> Settled {
    settle_with(Isolate::new(100), count, service, in_flight, choose)
}

/// The same with a learned chunk size.
pub fn settle_knowing(
    limit: LearnedChunkSize,
    count: JobId,
    service: &Service,
    in_flight: usize,
    choose: impl FnMut(usize) -> usize,
) -> Settled {
    let mut isolate = Isolate::new(100);
    isolate.begin_with(limit);
    settle_with(isolate, count, service, in_flight, choose)
}

fn settle_with(
    mut isolate: Isolate,
    count: JobId,
    service: &Service,
    in_flight: usize,
    mut choose: impl FnMut(usize) -> usize,
) -> Settled {
    let mut pool: BTreeSet<JobId> = (1..=count).collect();
    let mut flying: Vec<Group> = Vec::new();
    let mut settled =
        Settled { applied: BTreeSet::new(), failed: BTreeSet::new(), requests: 0, too_large: 0 };
    let mut probing = true;
    loop {
        while flying.len() < if probing { 1 } else { in_flight } {
            if flying.is_empty() && pool.is_empty() && isolate.is_empty() {
                isolate.verify_inferred();
            }
            let group = isolate.next_group().or_else(|| {
                let first = *pool.first()?;
                let size = isolate.free_group_size(TargetStatus::Disable, first);
                let ids: Vec<JobId> = pool.iter().copied().take(size).collect();
                for id in &ids {
                    pool.remove(id);
                }
                Some(isolate.free_group(TargetStatus::Disable, ids))
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
        settled.too_large += usize::from(group.ids.len() > service.jobs_max);
        let outcome = service.ask(&group.ids);
        let alone = (group.ids.len() == 1).then(|| group.ids[0]);
        match (outcome, alone) {
            (GroupResult::Applied, _) => settled.applied.extend(&group.ids),
            (_, Some(id)) => assert!(settled.failed.insert(id), "{id} failed twice"),
            _ => {}
        }
        let findings = isolate.record(group, outcome);
        pool.extend(findings.released);
        for (id, refusal) in findings.inferred {
            assert_eq!(refusal, id, "has another's code");
            assert!(settled.failed.insert(id), "{id} failed twice");
        }
    }
}

/// The same with one request at a time and without a size limit.
pub fn settle_in_order(count: JobId, bad: &BTreeSet<JobId>) -> Settled {
    settle(count, &Service::new(bad), 1, |_| 0)
}

/// Places `bad` of 10,000 ids at random in blocks of `stretch`; blocks may touch.
pub fn placement(bad: usize, stretch: i64, seed: u64) -> BTreeSet<JobId> {
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

/// The documented figures for 10,000 ids: the number of bad ones, the block length, and the limit of
/// the median of requests.
pub const PROMISED: [(usize, i64, usize); 9] = [
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

/// Requests for 10,000 ids with `bad` bad ones in 41 placements, in ascending order.
pub fn requests_of_placements(bad: usize, stretch: i64) -> Vec<usize> {
    let mut requests: Vec<usize> = (0..41)
        .map(|seed| {
            let bad = placement(bad, stretch, seed);
            let settled = settle_in_order(10_000, &bad);
            assert_eq!(settled.failed, bad);
            settled.requests
        })
        .collect();
    requests.sort_unstable();
    requests
}
