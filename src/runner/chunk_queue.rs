//! What to send next, among the chunks that a run makes itself: the same chunk again, and
//! the groups of the searches under way. Free jobs of the queue come after these.
//!
//! Pure but for the moments it is given. Every job in here is pending in the queue and
//! held by the run; a job that was cancelled or superseded meanwhile simply is not there
//! any more when its chunk is claimed.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::job::{JobId, Status};
use crate::domain::learned::SizeLimit;
use crate::isolate::{Findings, Group, Isolate, Outcome, Strikes};
use crate::limiter::retry::Backoff;

/// A chunk and what it has been through.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Its jobs.
    pub(super) group: Group,
    /// Its history of requests without a usable response; `None` until there was any.
    pub(super) trouble: Option<Trouble>,
    /// Whether it is one question from elsewhere in the queue, sent to see whether any is
    /// applied.
    pub(super) is_sample: bool,
}

impl Chunk {
    /// A group with the history of the chunk that it was cut from.
    pub(super) fn new(group: Group) -> Self {
        let trouble = group.strikes().map(Trouble::of_part);
        Self { group, trouble, is_sample: false }
    }
}

/// How often requests of a chunk have got no usable response.
#[derive(Debug)]
pub(super) struct Trouble {
    /// While other requests got through, those of the chunk that it was cut from included.
    pub(super) strikes: Strikes,
    /// Of this chunk as it is, whatever others met.
    pub(super) failures: u32,
    /// Its growing waits.
    pub(super) backoff: Backoff,
}

/// The first wait of a chunk without a usable response.
const TROUBLE_FIRST: Duration = Duration::from_secs(1);
/// The longest such wait.
const TROUBLE_LONGEST: Duration = Duration::from_secs(30);
/// Jitter lengthens it by up to a quarter.
const _: () = assert!(TROUBLE_LONGEST.as_millis() * 5 / 4 <= crate::store::DUE_WITHIN.as_millis());

impl Trouble {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::of_part(Strikes { count: 0, through_seen: 0 })
    }

    fn of_part(strikes: Strikes) -> Self {
        let backoff = Backoff::new(TROUBLE_FIRST, TROUBLE_LONGEST);
        Self { strikes, failures: 0, backoff }
    }

    /// One more request without a usable response, after `through` of the run had got through.
    /// Says whether others have got through since the last.
    pub(super) fn note(&mut self, through: u64) -> bool {
        self.failures += 1;
        let is_struck = through > self.strikes.through_seen;
        if is_struck {
            self.strikes = Strikes { count: self.strikes.count + 1, through_seen: through };
        }
        is_struck
    }
}

/// Chunks of the run's own making.
#[derive(Debug)]
pub(super) struct Work {
    isolate: Isolate,
    again: Vec<(Moment, Chunk)>,
}

impl Work {
    /// No work yet; groups of at most `jobs_max` jobs.
    pub(super) fn new(jobs_max: usize) -> Self {
        Self { isolate: Isolate::new(jobs_max), again: Vec::new() }
    }

    /// Begins with what an earlier run has learned of the most that the service takes.
    pub(super) fn begin_with(&mut self, limit: SizeLimit) {
        self.isolate.begin_with(limit);
    }

    /// What was learned of it.
    pub(super) fn size_limit(&self) -> Option<SizeLimit> {
        self.isolate.size_limit()
    }

    /// Free jobs that leave together.
    pub(super) fn free_group(&mut self, status: Status, ids: Vec<JobId>) -> Group {
        self.isolate.free_group(status, ids)
    }

    /// How many free jobs to send together when `first` is the first of them.
    pub(super) fn free_jobs(&self, status: Status, first: JobId) -> usize {
        self.isolate.free_jobs(status, first)
    }

    /// The chunk to send at `now`: what was sent before and is due first, then the searches.
    pub(super) fn next(&mut self, now: Moment) -> Option<Chunk> {
        let due = self.again.iter().position(|(due, _)| *due <= now);
        match due {
            Some(at) => Some(self.again.remove(at).1),
            None => self.isolate.next_group().map(Chunk::new),
        }
    }

    /// Takes a chunk that shall go again as it is, not before `due`.
    pub(super) fn again(&mut self, due: Moment, chunk: Chunk) {
        let at = self.again.partition_point(|(other, _)| *other <= due);
        self.again.insert(at, (due, chunk));
    }

    /// Takes in what became of a group, and says what follows for jobs that were not asked.
    pub(super) fn record(&mut self, group: Group, outcome: Outcome) -> Findings {
        self.isolate.record(group, outcome)
    }

    /// Cuts a group whose requests get no usable response into parts.
    pub(super) fn split(&mut self, group: Group, refusal: i64, strikes: Strikes) -> Findings {
        self.isolate.split(group, refusal, strikes)
    }

    /// Wants everything asked alone that is only inferred; `false` if nothing is.
    pub(super) fn ask_inferred(&mut self) -> bool {
        self.isolate.ask_inferred();
        !self.isolate.is_empty()
    }

    /// Forgets all chunks of the run's own: their jobs are to be claimed as any others.
    pub(super) fn forget_searches(&mut self) {
        self.again.clear();
        self.isolate.forget_searches();
    }

    /// Begins the waits again: what got no usable response met no outage.
    pub(super) fn reset_waits(&mut self) {
        for trouble in self.again.iter_mut().filter_map(|(_, chunk)| chunk.trouble.as_mut()) {
            trouble.backoff.reset();
        }
    }

    /// Whether there is no chunk but such as get no usable response.
    pub(super) fn has_only_trouble(&self) -> bool {
        self.again.iter().all(|(_, chunk)| chunk.trouble.is_some())
            && self.isolate.has_only_strikes()
    }

    /// When the next chunk is due, if nothing is now.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.again.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::Blame;

    fn chunk(work: &mut Work, id: i64) -> Chunk {
        Chunk::new(work.free_group(Status::Enable, vec![id]))
    }

    #[test]
    fn chunks_go_again_in_the_order_they_are_due_and_before_the_searches() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut work = Work::new(100);
        let refused = Outcome::Refused { refusal: 1, of: Blame::Request };
        let group = work.free_group(Status::Enable, vec![8, 9]);
        work.record(group, refused);
        for (s, id) in [(5, 5), (1, 1), (5, 6)] {
            let chunk = chunk(&mut work, id);
            work.again(at(s), chunk);
        }
        let mut next = |now| work.next(at(now)).map(|chunk| chunk.group.ids);
        assert_eq!(next(1), Some(vec![1]));
        assert_eq!(next(1), Some(vec![8]));
        assert_eq!(next(5), Some(vec![5]));
        assert_eq!(next(5), Some(vec![6]));
        assert_eq!(next(5), None);
    }
}
