//! Questions that are bad according to one rejected group, of which all others were applied.
//!
//! Pure. A single rejection can be misleading: a fault of the service, or a maximum of ids that was just
//! lowered. The last remaining question would then fail for it. So a question is recorded without a request
//! of its own only if a second rejected group agrees: the group from which the first was split. All others of
//! that group must be applied as well. After the rejections, a group at least as large must also be applied,
//! so that the size was not the reason for either rejection. If another bad question explains the larger
//! rejection, this question is sent alone.

use std::collections::{BTreeSet, HashMap};

use super::{Parent, SplitCause};
use crate::domain::job::{JobId, TargetStatus};

/// An inference waits for this number of applied groups; then its question is sent alone. A question without
/// an outcome is sent again after a crash, and its time is missing in the ETA.
const GROUPS_MAX: u32 = 5;

/// One question, and the conditions under which it is recorded as bad.
#[derive(Debug)]
pub(super) struct Inference {
    pub(super) status: TargetStatus,
    pub(super) id: JobId,
    pub(super) cause: SplitCause,
    /// The jobs of the larger rejected group that are not applied yet.
    others: BTreeSet<JobId>,
    /// A group of this number of jobs must be applied.
    jobs: usize,
    has_size: bool,
    /// The number of groups applied since.
    groups: u32,
}

impl Inference {
    /// An inference from a single rejected group.
    pub(super) fn unconfirmed(status: TargetStatus, id: JobId, cause: SplitCause) -> Self {
        let jobs = cause.jobs;
        Self { status, id, cause, others: BTreeSet::new(), jobs, has_size: false, groups: 0 }
    }

    fn is_confirmed(&self) -> bool {
        self.others.is_empty() && self.has_size
    }
}

/// All open inferences, and the results of the jobs that they depend on.
#[derive(Debug, Default)]
pub(super) struct Inferences {
    open: Vec<Inference>,
    /// Jobs that an isolation released, with their results since.
    tracked: HashMap<JobId, Option<JobResult>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobResult {
    Applied,
    Bad,
}

impl Inferences {
    /// Records the results of `ids` from now on, because an isolation has released them.
    pub(super) fn track(&mut self, ids: &[JobId]) {
        for id in ids {
            self.tracked.entry(*id).or_default();
        }
    }

    /// Adds an inference. Returns it if it cannot be confirmed, because another bad question explains the
    /// larger rejection.
    pub(super) fn add(
        &mut self,
        status: TargetStatus,
        id: JobId,
        cause: SplitCause,
        parent: &Parent,
    ) -> Option<Inference> {
        let has = |result, id: &JobId| self.tracked.get(id).copied().flatten() == Some(result);
        let is_explained = parent.others.iter().any(|id| has(JobResult::Bad, id));
        let others =
            parent.others.iter().copied().filter(|id| !has(JobResult::Applied, id)).collect();
        let jobs = parent.jobs.max(cause.jobs);
        let inference = Inference { status, id, cause, others, jobs, has_size: false, groups: 0 };
        if is_explained {
            return Some(inference);
        }
        self.open.push(inference);
        None
    }

    /// Records that the jobs `ids` were applied together. Returns the questions whose inference this
    /// confirms, each with its rejection.
    pub(super) fn on_applied(&mut self, ids: &[JobId]) -> Vec<(JobId, i64)> {
        for id in ids {
            if let Some(result) = self.tracked.get_mut(id) {
                *result = Some(JobResult::Applied);
            }
        }
        for inference in &mut self.open {
            inference.has_size |= ids.len() >= inference.jobs;
            inference.groups += 1;
            for id in ids {
                inference.others.remove(id);
            }
        }
        let confirmed = self.open.extract_if(.., |inference| inference.is_confirmed());
        confirmed.map(|inference| (inference.id, inference.cause.rejection)).collect()
    }

    /// Records that the job `id` is bad. Returns the inferences whose larger rejection it explains.
    pub(super) fn on_bad(&mut self, id: JobId) -> Vec<Inference> {
        if let Some(result) = self.tracked.get_mut(&id) {
            *result = Some(JobResult::Bad);
        }
        self.open.extract_if(.., |inference| inference.others.contains(&id)).collect()
    }

    /// Removes and returns the inferences that have waited for [`GROUPS_MAX`] groups.
    pub(super) fn take_overdue(&mut self) -> Vec<Inference> {
        self.open.extract_if(.., |inference| inference.groups > GROUPS_MAX).collect()
    }

    /// Removes and returns all inferences.
    pub(super) fn take_all(&mut self) -> Vec<Inference> {
        std::mem::take(&mut self.open)
    }
}
