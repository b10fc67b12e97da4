//! The chunk size that the service accepts, as far as rejections and failures show it.
//!
//! Pure. The service documents no maximum, so the configured size applies until a group without a bad
//! question is rejected. Then the maximum is between the largest accepted size and the smallest rejected one,
//! and a binary search narrows it. Every accepted group on the way completes its jobs, and only one larger
//! group is in flight at a time, so a rejection costs a request or two. If the requests of a size fail while
//! those of its parts do not, the size is reduced for a while, and nothing is learned.

use crate::domain::learned::LearnedChunkSize;

/// The number of full groups that must be applied before a larger one is tried.
const PASSES_BEFORE_MORE: u32 = 4;
/// The same number while the result of the last larger group is unknown: its isolation is not finished, or
/// has found a bad question in it.
const PASSES_IN_DOUBT: u32 = 64;

/// The search ends when a larger size could gain no more than one part in this number.
const GAIN: usize = 8;

/// The state of the search for the chunk size.
#[derive(Debug)]
pub(super) struct ChunkSize {
    /// The configured maximum.
    configured: usize,
    learned: Option<LearnedChunkSize>,
    /// The largest size that was accepted, in this run or in the one that learned the limit.
    accepted: usize,
    /// The temporary maximum after failures.
    reduced: Option<usize>,
    /// The full groups applied since the last one that was not, or since a larger one was sent.
    passes: u32,
    /// Whether a larger group is in flight, or was rejected for another reason.
    is_trying: bool,
    /// A size that was rejected once without a bad question, for a reason that may not be the size: it was
    /// accepted before, or the code concerns questions.
    suspect: Option<usize>,
}

impl ChunkSize {
    pub(super) fn new(configured: usize) -> Self {
        Self {
            configured: configured.max(1),
            learned: None,
            accepted: 0,
            reduced: None,
            passes: 0,
            is_trying: false,
            suspect: None,
        }
    }

    /// Starts with the limits that an earlier run learned. Impossible values are ignored.
    pub(super) fn begin_with(&mut self, learned: LearnedChunkSize) {
        if learned.accepted > 0 && learned.accepted < learned.rejected {
            self.learned = Some(learned);
            self.accepted = learned.accepted;
        }
    }

    /// The learned limits; `None` if no group was too large.
    pub(super) fn learned(&self) -> Option<LearnedChunkSize> {
        self.learned
    }

    /// The most jobs in the next group.
    pub(super) fn most(&self) -> usize {
        let passes_needed = if self.is_trying { PASSES_IN_DOUBT } else { PASSES_BEFORE_MORE };
        let tries = self.passes >= passes_needed;
        let most = match self.learned {
            None => self.configured,
            Some(LearnedChunkSize { accepted, rejected }) => {
                let between = rejected - accepted - 1;
                let more = if tries && between > accepted / GAIN { between.div_ceil(2) } else { 0 };
                self.configured.min(accepted.saturating_add(more))
            }
        };
        match self.reduced {
            Some(reduced) if tries => most.min(reduced.saturating_mul(2)),
            Some(reduced) => most.min(reduced),
            None => most,
        }
    }

    /// Records that a group of `jobs` is sent. If that is more than the accepted size, the next groups are
    /// smaller until its result is known.
    pub(super) fn on_send(&mut self, jobs: usize) {
        let known = self.learned.map_or(usize::MAX, |learned| learned.accepted);
        if jobs > known.min(self.reduced.unwrap_or(usize::MAX)) {
            self.passes = 0;
            self.is_trying = true;
        }
    }

    /// Records that a group of `jobs` was applied.
    pub(super) fn on_applied(&mut self, jobs: usize) {
        self.accepted = self.accepted.max(jobs);
        if self.suspect.is_some_and(|suspect| jobs >= suspect) {
            self.suspect = None;
        }
        if let Some(learned) = &mut self.learned
            && jobs >= learned.accepted
        {
            self.is_trying &= jobs == learned.accepted;
            learned.accepted = jobs;
            learned.rejected = learned.rejected.max(jobs.saturating_add(1));
        }
        if jobs >= self.most() {
            self.passes = self.passes.saturating_add(1);
        }
        if self.reduced.is_some_and(|reduced| jobs > reduced) {
            self.is_trying = false;
            self.reduced = Some(jobs).filter(|reduced| *reduced < self.configured);
        }
    }

    /// Records that a group of `jobs`, at least two, was rejected by a code although no question in it was
    /// bad. `may_be_wrong`: the code concerns questions.
    pub(super) fn on_too_large(&mut self, jobs: usize, may_be_wrong: bool) {
        self.passes = 0;
        self.is_trying = false;
        if self.suspect.is_none() && (may_be_wrong || jobs <= self.accepted) {
            self.suspect = Some(jobs);
            return;
        }
        if jobs <= self.accepted {
            // The service accepts fewer than before: the search restarts at half of the size.
            self.accepted = 0;
        }
        self.suspect = None;
        let accepted = self.accepted.max(jobs / 2);
        let rejected = self.learned.map_or(jobs, |learned| learned.rejected.min(jobs));
        self.learned = Some(LearnedChunkSize { accepted, rejected: rejected.max(accepted + 1) });
    }

    /// Records that a group of `jobs`, at least two, repeatedly got no usable response, and all of its parts
    /// were applied.
    pub(super) fn on_failing(&mut self, jobs: usize) {
        self.passes = 0;
        self.reduced = Some(self.reduced.map_or(jobs / 2, |reduced| reduced.min(jobs / 2)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends groups of the largest size to a service that accepts `max`; returns the number of rejections.
    fn send(size: &mut ChunkSize, max: usize, groups: u32) -> u32 {
        let mut refused = 0;
        for _ in 0..groups {
            let jobs = size.most();
            size.on_send(jobs);
            if jobs > max {
                refused += 1;
                size.on_too_large(jobs, false);
            } else {
                size.on_applied(jobs);
            }
        }
        refused
    }

    #[test]
    fn max_chunk_size_is_found_with_few_rejections() {
        for max in [1, 2, 3, 30, 50, 64, 75, 99, 100, 101, 499] {
            let mut size = ChunkSize::new(500);
            let refused = send(&mut size, max, 200);
            let found = size.most();
            assert!(found <= max && (max - found) * GAIN <= max, "{max}: {found}");
            assert!(refused <= 12, "{max}: {refused}");
        }
    }

    #[test]
    fn configured_chunk_size_is_used_until_rejected() {
        let mut size = ChunkSize::new(100);
        assert_eq!((send(&mut size, 100, 50), size.most(), size.learned()), (0, 100, None));
    }

    #[test]
    fn learned_chunk_size_persists_and_is_capped() {
        let mut size = ChunkSize::new(100);
        send(&mut size, 40, 100);
        let limit = size.learned().expect("learned");
        let mut next = ChunkSize::new(100);
        next.begin_with(limit);
        assert_eq!((send(&mut next, 40, 100), next.most()), (0, size.most()));
        let mut small = ChunkSize::new(10);
        small.begin_with(limit);
        assert_eq!(small.most(), 10);
    }

    #[test]
    fn second_rejection_lowers_a_proven_chunk_size() {
        let mut size = ChunkSize::new(100);
        size.on_applied(100);
        size.on_too_large(100, false);
        assert_eq!((size.most(), size.learned()), (100, None));
        size.on_too_large(100, false);
        assert_eq!(size.most(), 50);
    }

    #[test]
    fn one_larger_chunk_is_in_flight_at_a_time() {
        let mut size = ChunkSize::new(100);
        size.on_too_large(100, false);
        for _ in 0..PASSES_BEFORE_MORE {
            size.on_applied(50);
        }
        let larger = size.most();
        assert!(larger > 50);
        size.on_send(larger);
        assert_eq!(size.most(), 50);
        size.on_applied(larger);
        assert!(size.most() >= larger);
    }

    #[test]
    fn transient_failures_shrink_chunks_only_for_a_while() {
        let mut size = ChunkSize::new(100);
        size.on_failing(100);
        assert_eq!((size.most(), size.learned()), (50, None));
        assert_eq!(send(&mut size, 100, 20), 0);
        assert_eq!((size.most(), size.learned()), (100, None));
    }

    #[test]
    fn any_stored_size_limit_gives_a_usable_chunk_size() {
        for (accepted, rejected) in
            [(0, 1), (1, usize::MAX), (usize::MAX - 1, usize::MAX), (5, 5), (9, 3), (1, 2)]
        {
            let mut size = ChunkSize::new(100);
            size.begin_with(LearnedChunkSize { accepted, rejected });
            assert_eq!(send(&mut size, 100, 50), 0, "{accepted} {rejected}");
            assert!((1..=100).contains(&size.most()), "{accepted} {rejected}");
        }
    }

    #[test]
    fn chunk_size_follows_a_lowered_service_maximum() {
        let mut size = ChunkSize::new(100);
        send(&mut size, 60, 100);
        let refused = send(&mut size, 20, 100);
        assert!(size.most() <= 20 && size.most() >= 15, "{}", size.most());
        assert!(refused <= 8, "{refused}");
    }
}
