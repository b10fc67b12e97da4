//! Questions that are bad as far as one rejected group says: all others of it have passed.
//!
//! Pure. One rejection may have been wrong (a fault of the service, a maximum of ids that has
//! just fallen), and then the question that is asked last would take the blame. So a question is
//! recorded without a request of its own only when a second rejected group agrees: the one that
//! the first was a part of. All others of that have to pass as well, and so has, after the
//! rejections, some group as large as it, so that neither was rejected for its size. Where
//! another bad question explains the larger rejection, this one is asked alone.

use std::collections::{BTreeSet, HashMap};

use super::{Cause, Parent};
use crate::domain::job::{JobId, Status};

/// So many passed groups an inference waits for; then its question is asked alone. A question that
/// has no outcome for long is asked again after a crash, and its time is missing in the estimates.
const GROUPS_MAX: u32 = 5;

/// One question, and what has to pass before it is recorded.
#[derive(Debug)]
pub(super) struct Inference {
    pub(super) status: Status,
    pub(super) id: JobId,
    pub(super) cause: Cause,
    /// Those of the larger rejected group that have not passed yet.
    others: BTreeSet<JobId>,
    /// A group of so many jobs has to pass.
    jobs: usize,
    /// Whether one has.
    size_passed: bool,
    /// How many groups have passed meanwhile.
    groups: u32,
}

impl Inference {
    /// One that a single rejected group speaks of.
    pub(super) fn unconfirmed(status: Status, id: JobId, cause: Cause) -> Self {
        let jobs = cause.jobs;
        Self { status, id, cause, others: BTreeSet::new(), jobs, size_passed: false, groups: 0 }
    }

    fn is_confirmed(&self) -> bool {
        self.others.is_empty() && self.size_passed
    }
}

/// All that wait, and what became of those that they wait for.
#[derive(Debug, Default)]
pub(super) struct Inferences {
    waiting: Vec<Inference>,
    /// Questions that a search has left to others: whether they have passed or are bad since.
    left: HashMap<JobId, Option<Found>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Passed,
    Bad,
}

impl Inferences {
    /// A search has left these to others.
    pub(super) fn leave(&mut self, ids: &[JobId]) {
        for id in ids {
            self.left.entry(*id).or_default();
        }
    }

    /// Takes an inference. Returns it where it cannot be confirmed, as another bad question
    /// explains the larger rejection.
    pub(super) fn add(
        &mut self,
        status: Status,
        id: JobId,
        cause: Cause,
        parent: &Parent,
    ) -> Option<Inference> {
        let found = |found, id: &JobId| self.left.get(id).copied().flatten() == Some(found);
        let is_explained = parent.others.iter().any(|id| found(Found::Bad, id));
        let others = parent.others.iter().copied().filter(|id| !found(Found::Passed, id)).collect();
        let jobs = parent.jobs.max(cause.jobs);
        let inference =
            Inference { status, id, cause, others, jobs, size_passed: false, groups: 0 };
        if is_explained {
            return Some(inference);
        }
        self.waiting.push(inference);
        None
    }

    /// These have passed together. Returns the questions that are confirmed by it, each with its
    /// refusal.
    pub(super) fn passed(&mut self, ids: &[JobId]) -> Vec<(JobId, i64)> {
        for id in ids {
            if let Some(found) = self.left.get_mut(id) {
                *found = Some(Found::Passed);
            }
        }
        for inference in &mut self.waiting {
            inference.size_passed |= ids.len() >= inference.jobs;
            inference.groups += 1;
            for id in ids {
                inference.others.remove(id);
            }
        }
        let confirmed = self.waiting.extract_if(.., |inference| inference.is_confirmed());
        confirmed.map(|inference| (inference.id, inference.cause.refusal)).collect()
    }

    /// This one is bad. Returns the inferences whose larger rejection it explains.
    pub(super) fn refused(&mut self, id: JobId) -> Vec<Inference> {
        if let Some(found) = self.left.get_mut(&id) {
            *found = Some(Found::Bad);
        }
        self.waiting.extract_if(.., |inference| inference.others.contains(&id)).collect()
    }

    /// Those that have waited for long enough.
    pub(super) fn take_overdue(&mut self) -> Vec<Inference> {
        self.waiting.extract_if(.., |inference| inference.groups > GROUPS_MAX).collect()
    }

    /// All of them; none waits then.
    pub(super) fn take_all(&mut self) -> Vec<Inference> {
        std::mem::take(&mut self.waiting)
    }
}
