//! The chunks that a run itself must send: chunks to send again, and the groups of an isolation.
//!
//! Pure; moments are arguments. Their jobs are pending in the queue and reserved by the run. A job that is
//! cancelled or superseded meanwhile is missing when its chunk is claimed.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::job::{JobId, TargetStatus};
use crate::domain::learned::LearnedChunkSize;
use crate::isolate::{Attempts, Group, GroupResult, Isolate, IsolationResult};
use crate::limiter::retry::Backoff;

/// Jobs that go out in one request.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) group: Group,
    /// Its requests without a usable response; `None` until the first.
    pub(super) failures: Option<FailureHistory>,
    /// Whether it is a sample: one question from the end of the queue, sent to see whether any request is
    /// applied.
    pub(super) is_sample: bool,
}

impl Chunk {
    /// A chunk with the attempts of the chunk from which its group was split.
    pub(super) fn new(group: Group) -> Self {
        let failures = group.attempts().map(FailureHistory::of_part);
        Self { group, failures, is_sample: false }
    }

    fn keeps_failing(&self) -> bool {
        self.failures.as_ref().is_some_and(|failures| failures.in_a_row >= FAILING_MIN)
    }
}

/// Requests in a row without a usable response from which on other groups are sent before a chunk.
const FAILING_MIN: u32 = 2;

/// The requests of a chunk without a usable response.
#[derive(Debug)]
pub(super) struct FailureHistory {
    /// The requests that counted, including those of the chunk from which this one was split.
    pub(super) attempts: Attempts,
    /// All failed requests of this chunk as it is, counted or not.
    pub(super) in_a_row: u32,
    pub(super) backoff: Backoff,
}

/// The first wait of a chunk without a usable response.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_LONGEST: Duration = Duration::from_secs(30);
/// Jitter lengthens a wait by up to a quarter.
const _: () = assert!(WAIT_LONGEST.as_millis() * 5 / 4 <= crate::queue::DUE_WITHIN.as_millis());

impl FailureHistory {
    pub(super) fn new() -> Self {
        Self::of_part(Attempts { count: 0, evaluated_at_last: 0 })
    }

    fn of_part(attempts: Attempts) -> Self {
        Self { attempts, in_a_row: 0, backoff: Backoff::new(WAIT_FIRST, WAIT_LONGEST) }
    }

    /// Records one more request without a usable response. `evaluated` is the number of requests of the run
    /// that were evaluated so far. Returns whether it is an attempt: it is if another request was evaluated
    /// since the last one.
    pub(super) fn record(&mut self, evaluated: u64) -> bool {
        self.in_a_row += 1;
        let is_attempt = evaluated > self.attempts.evaluated_at_last;
        if is_attempt {
            let count = self.attempts.count + 1;
            self.attempts = Attempts { count, evaluated_at_last: evaluated };
        }
        is_attempt
    }
}

#[derive(Debug)]
pub(super) struct ChunkQueue {
    isolate: Isolate,
    /// Chunks to send again, by the moment when they are due.
    delayed: Vec<(Moment, Chunk)>,
}

impl ChunkQueue {
    /// An empty queue, for chunks of at most `jobs_max` jobs.
    pub(super) fn new(jobs_max: usize) -> Self {
        Self { isolate: Isolate::new(jobs_max), delayed: Vec::new() }
    }

    /// Starts with the chunk size that an earlier run learned.
    pub(super) fn begin_with(&mut self, size: LearnedChunkSize) {
        self.isolate.begin_with(size);
    }

    pub(super) fn learned_chunk_size(&self) -> Option<LearnedChunkSize> {
        self.isolate.learned_chunk_size()
    }

    /// See [`Isolate::free_group`].
    pub(super) fn free_group(&mut self, status: TargetStatus, ids: Vec<JobId>) -> Group {
        self.isolate.free_group(status, ids)
    }

    /// See [`Isolate::free_group_size`].
    pub(super) fn free_group_size(&self, status: TargetStatus, first: JobId) -> usize {
        self.isolate.free_group_size(status, first)
    }

    /// The chunk to send at `now`: chunks to send again come first, then the groups of an isolation. A chunk
    /// that keeps failing comes last: while nothing is applied there are few requests, and a few such chunks
    /// would take all of them for ever.
    pub(super) fn next(&mut self, now: Moment) -> Option<Chunk> {
        let due = |(due, _): &&(Moment, Chunk)| *due <= now;
        let fresh =
            self.delayed.iter().take_while(due).position(|(_, chunk)| !chunk.keeps_failing());
        if let Some(at) = fresh {
            return Some(self.delayed.remove(at).1);
        }
        if let Some(group) = self.isolate.next_group() {
            return Some(Chunk::new(group));
        }
        let is_due = self.delayed.first().is_some_and(|first| first.0 <= now);
        is_due.then(|| self.delayed.remove(0).1)
    }

    /// Sends `chunk` again unchanged, not before `due`.
    pub(super) fn requeue(&mut self, due: Moment, chunk: Chunk) {
        let at = self.delayed.partition_point(|(other, _)| *other <= due);
        self.delayed.insert(at, (due, chunk));
    }

    /// See [`Isolate::shrink`].
    pub(super) fn shrink(&mut self, chunk: &mut Chunk, ids: Vec<JobId>) -> Vec<JobId> {
        self.isolate.shrink(&mut chunk.group, ids)
    }

    /// See [`Isolate::record`].
    pub(super) fn record(&mut self, group: Group, result: GroupResult) -> IsolationResult {
        self.isolate.record(group, result)
    }

    /// See [`Isolate::split`].
    pub(super) fn split(
        &mut self,
        group: Group,
        request: i64,
        attempts: Attempts,
    ) -> IsolationResult {
        self.isolate.split(group, request, attempts)
    }

    /// Queues each question alone that is only inferred to be bad. Returns whether any group is queued
    /// afterwards.
    pub(super) fn verify_inferred(&mut self) -> bool {
        self.isolate.verify_inferred();
        !self.isolate.is_empty()
    }

    /// Drops all chunks; the caller releases their jobs.
    pub(super) fn clear(&mut self) {
        self.delayed.clear();
        self.isolate.reset();
    }

    /// Resets the waits to their shortest: they were not due to an outage.
    pub(super) fn reset_waits(&mut self) {
        for failures in self.delayed.iter_mut().filter_map(|(_, chunk)| chunk.failures.as_mut()) {
            failures.backoff.reset();
        }
    }

    /// Whether no queued chunk has had a usable response.
    pub(super) fn has_only_failing(&self) -> bool {
        self.delayed.iter().all(|(_, chunk)| chunk.failures.is_some())
            && self.isolate.has_only_split_parts()
    }

    /// When the next chunk is due, if none is due now.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.delayed.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::RejectionScope;

    fn chunk(chunks: &mut ChunkQueue, id: i64) -> Chunk {
        Chunk::new(chunks.free_group(TargetStatus::Enable, vec![id]))
    }

    /// Three poisonous questions alone kept the outage's probes to themselves, so that the run ended.
    #[test]
    fn failing_chunks_do_not_starve_isolation_groups() {
        let mut chunks = ChunkQueue::new(10);
        for id in [1, 2] {
            let mut failing = chunk(&mut chunks, id);
            let failures = failing.failures.get_or_insert_with(FailureHistory::new);
            failures.record(0);
            failures.record(0);
            chunks.requeue(Moment(Duration::ZERO), failing);
        }
        let group = chunks.free_group(TargetStatus::Enable, vec![3, 4]);
        let rejected = GroupResult::Rejected { rejection: 9, scope: RejectionScope::Questions };
        chunks.record(group, rejected);
        let now = Moment(Duration::from_secs(1));
        let first = chunks.next(now).unwrap().group.ids;
        assert!(first.iter().all(|id| [3, 4].contains(id)), "{first:?}");
        let failing: Vec<JobId> =
            std::iter::from_fn(|| chunks.next(now)).flat_map(|chunk| chunk.group.ids).collect();
        assert_eq!(failing, [1, 2]);
    }

    #[test]
    fn requeued_chunks_precede_isolation_in_due_order() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut chunks = ChunkQueue::new(100);
        let rejected = GroupResult::Rejected { rejection: 1, scope: RejectionScope::Request };
        let group = chunks.free_group(TargetStatus::Enable, vec![8, 9]);
        chunks.record(group, rejected);
        for (s, id) in [(5, 5), (1, 1), (5, 6)] {
            let chunk = chunk(&mut chunks, id);
            chunks.requeue(at(s), chunk);
        }
        let mut next = |now| chunks.next(at(now)).map(|chunk| chunk.group.ids);
        assert_eq!(next(1), Some(vec![1]));
        assert_eq!(next(1), Some(vec![8]));
        assert_eq!(next(5), Some(vec![5]));
        assert_eq!(next(5), Some(vec![6]));
        assert_eq!(next(5), None);
    }
}
