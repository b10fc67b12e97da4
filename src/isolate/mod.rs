//! Which jobs to send together, and which of them are bad: isolates the bad questions of a queue with few
//! requests.
//!
//! Pure: takes results, returns the next group; no clock, no I/O. The size of a group depends on the
//! probability that it is applied. A rejected group is cut in two at a point where either part contains the
//! first bad question with an even chance, and one part is sent. If it is applied, the other part contains
//! the bad question, without another request. Jobs that were not sent are released as soon as they are no
//! longer suspected. All isolations of a run are in one value, and none waits for another.
//!
//! A question is inferred to be bad only if two rejected groups agree (`inference.rs`), because a single
//! rejection can be misleading. Codes that may concern the request allow no inference: the last suspects are
//! sent too. If they are applied, the group was too large, and the chunk size is learned.
//!
//! A group whose requests get no usable response while others are evaluated is split into several parts that
//! are sent concurrently, because each of them can cost a whole timeout.

mod bad_id_model;
mod chunk_size;
mod inference;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use crate::domain::job::{JobId, TargetStatus};
use crate::domain::learned::LearnedChunkSize;
use bad_id_model::BadIdModel;
use chunk_size::ChunkSize;
use inference::{Inference, Inferences};

/// The first group of a run is small, so that little is at risk if the service rejects everything.
const FIRST_JOBS: usize = 10;

/// The number of parts into which a group without a usable response is split. For 100 jobs, splitting in two
/// costs five consecutive timeouts, and splitting in ten costs more requests than splitting in five.
const SPLIT_PARTS: usize = 5;

/// The result of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupResult {
    /// The service applied all of it.
    Applied,
    /// The service rejected the group as a whole.
    Rejected {
        /// The number that the caller gave this rejection.
        rejection: i64,
        scope: RejectionScope,
    },
}

/// What a rejection can concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionScope {
    /// The questions: one of them is bad, unless the group is larger than the service accepts.
    Questions,
    /// The questions or the request itself, for example its size.
    Request,
}

/// The rejection or failure that an isolation started from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SplitCause {
    rejection: i64,
    /// `None` if the group got no usable response.
    scope: Option<RejectionScope>,
    /// The number of jobs in the group.
    jobs: usize,
    /// The rejected group from which this one was split.
    parent: Option<Parent>,
}

/// A rejected group one level up in its isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parent {
    /// The number of jobs that were rejected together.
    jobs: usize,
    /// Those of them that are not applied and not in the part.
    others: Vec<JobId>,
}

/// The requests without a usable response that count against a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Their number. Between two of them another request was evaluated.
    pub count: u32,
    /// The number of evaluated requests of the run at the last of them.
    pub evaluated_at_last: u64,
}

/// Jobs that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Their target status.
    pub status: TargetStatus,
    /// The jobs, at least one.
    pub ids: Vec<JobId>,
    /// If all of `ids` are applied, one of these is bad.
    suspects: Vec<JobId>,
    /// Why this group is sent; `None` for free jobs.
    cause: Option<SplitCause>,
    /// The attempts of the group from which this one was split.
    attempts: Option<Attempts>,
}

impl Group {
    /// The attempts of the group from which this one was split, if its requests got no usable response.
    pub fn attempts(&self) -> Option<Attempts> {
        self.attempts
    }
}

/// What a result shows about jobs outside the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IsolationResult {
    /// Jobs that stay reserved, because the bad question is among them.
    pub kept: Vec<JobId>,
    /// Jobs that are no longer suspected.
    pub released: Vec<JobId>,
    /// Bad questions that were not sent alone, each with the rejection whose code it gets. All others of that
    /// rejected group were applied since.
    pub inferred: Vec<(JobId, i64)>,
}

/// The isolations of a run, and the learned rates and sizes.
#[derive(Debug)]
pub struct Isolate {
    /// Groups to send, oldest first.
    ready: VecDeque<Group>,
    /// By target status, in the order of [`TargetStatus::ALL`].
    models: [BadIdModel; 3],
    /// The largest group that was applied.
    applied_jobs_max: usize,
    chunk_size: ChunkSize,
    /// Questions that are bad according to one rejected group.
    inferences: Inferences,
    /// Groups that were split for failures, by the number that the caller gave the last failure.
    split_groups: HashMap<i64, SplitGroup>,
    /// Whether no result has arrived yet.
    is_first: bool,
}

/// A group that was split because its requests got no usable response.
#[derive(Debug)]
struct SplitGroup {
    jobs: usize,
    /// The number of parts that are not applied yet.
    open_parts: usize,
}

impl Isolate {
    /// No isolation yet, for groups of at most `jobs_max` jobs (at least 1).
    pub fn new(jobs_max: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            models: [BadIdModel::new(), BadIdModel::new(), BadIdModel::new()],
            applied_jobs_max: 0,
            chunk_size: ChunkSize::new(jobs_max),
            inferences: Inferences::default(),
            split_groups: HashMap::new(),
            is_first: true,
        }
    }

    /// Starts with the chunk size that an earlier run learned.
    pub fn begin_with(&mut self, size: LearnedChunkSize) {
        self.chunk_size.begin_with(size);
    }

    /// The learned chunk size; `None` if no group was rejected for its size.
    pub fn learned_chunk_size(&self) -> Option<LearnedChunkSize> {
        self.chunk_size.learned()
    }

    /// The number of free jobs to send together if `first` is the first of them.
    pub fn free_group_size(&self, status: TargetStatus, first: JobId) -> usize {
        let size = self.models[index(status)].group_size(first, self.chunk_size.most());
        if self.is_first { size.min(FIRST_JOBS) } else { size }
    }

    /// A group of free jobs; at most as many as [`Isolate::free_group_size`] returns.
    pub fn free_group(&mut self, status: TargetStatus, ids: Vec<JobId>) -> Group {
        self.chunk_size.on_send(ids.len());
        Group { status, ids, suspects: Vec::new(), cause: None, attempts: None }
    }

    /// The next group of an isolation.
    pub fn next_group(&mut self) -> Option<Group> {
        self.ready.pop_front()
    }

    /// Whether no isolation has a group to send.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether every queued group was split from one whose requests got no usable response.
    pub fn has_only_split_parts(&self) -> bool {
        self.ready.iter().all(|group| group.attempts.is_some())
    }

    /// Queues each question alone that is only inferred to be bad. For a run without other jobs to send, in
    /// which no later response can confirm the inference.
    pub fn verify_inferred(&mut self) {
        let unconfirmed = self.inferences.take_all();
        self.ready.extend(unconfirmed.into_iter().map(alone));
    }

    /// Drops every isolation and the learned rates of bad questions, because the rejections behind them prove
    /// nothing. The caller releases all of their jobs.
    pub fn reset(&mut self) {
        self.ready.clear();
        self.inferences = Inferences::default();
        self.split_groups.clear();
        self.models = [BadIdModel::new(), BadIdModel::new(), BadIdModel::new()];
    }

    /// Handles a group of which some jobs were cancelled or superseded, so that `ids` remain. The bad
    /// question may have been among the others, so its isolation ends. Returns the suspects, which the caller
    /// releases.
    pub fn shrink(&mut self, group: &mut Group, ids: Vec<JobId>) -> Vec<JobId> {
        group.ids = ids;
        if let Some(cause) = group.cause.take() {
            self.forget_split(&cause);
        }
        std::mem::take(&mut group.suspects)
    }

    /// Splits a group into parts that are sent concurrently: its requests get no usable response, and one of
    /// its questions may be the reason. Keeps all of its jobs. `rejection` is the number that the caller gave
    /// the last of these requests.
    pub fn split(&mut self, group: Group, rejection: i64, attempts: Attempts) -> IsolationResult {
        let Group { status, ids, suspects: released, cause, .. } = group;
        self.is_first = false;
        if let Some(cause) = cause {
            self.forget_split(&cause);
        }
        let part = ids.len().div_ceil(SPLIT_PARTS).max(1);
        let split_group = SplitGroup { jobs: ids.len(), open_parts: ids.len().div_ceil(part) };
        self.split_groups.insert(rejection, split_group);
        let cause = SplitCause { rejection, scope: None, jobs: ids.len(), parent: None };
        self.ready.extend(ids.chunks(part).map(|ids| Group {
            status,
            ids: ids.to_vec(),
            suspects: Vec::new(),
            cause: Some(cause.clone()),
            attempts: Some(attempts),
        }));
        IsolationResult { kept: ids, released, ..IsolationResult::default() }
    }

    /// Records the result of a group.
    pub fn record(&mut self, group: Group, result: GroupResult) -> IsolationResult {
        self.is_first = false;
        match result {
            GroupResult::Applied => self.on_applied(group),
            GroupResult::Rejected { rejection, scope } => self.on_rejected(group, rejection, scope),
        }
    }

    fn on_applied(&mut self, group: Group) -> IsolationResult {
        let jobs = group.ids.len();
        for id in &group.ids {
            self.models[index(group.status)].learn(*id, false);
        }
        self.applied_jobs_max = self.applied_jobs_max.max(jobs);
        self.chunk_size.on_applied(jobs);
        let inferred = self.inferences.on_applied(&group.ids);
        let overdue = self.inferences.take_overdue();
        self.ready.extend(overdue.into_iter().map(alone));
        let mut result = match group.cause {
            None => IsolationResult::default(),
            Some(cause) if cause.scope.is_none() => {
                self.on_part_applied(&cause);
                IsolationResult::default()
            }
            Some(cause) if group.suspects.is_empty() => {
                // The last suspects were applied like all the others, so none was bad: the group was too
                // large, or the rejection was misleading.
                self.on_too_large(cause.jobs, cause.scope == Some(RejectionScope::Questions));
                IsolationResult::default()
            }
            Some(cause) => self.search(group.status, group.suspects, cause, true),
        };
        result.inferred = inferred;
        result
    }

    /// Records that a part of a group that was split for failures was applied.
    fn on_part_applied(&mut self, cause: &SplitCause) {
        let Some(split) = self.split_groups.get_mut(&cause.rejection) else { return };
        split.open_parts -= 1;
        if split.open_parts == 0 {
            let jobs = split.jobs;
            self.split_groups.remove(&cause.rejection);
            self.chunk_size.on_failing(jobs);
        }
    }

    /// Records that a part of a split group was not applied, so the size of the group was not the reason.
    fn forget_split(&mut self, cause: &SplitCause) {
        if cause.scope.is_none() {
            self.split_groups.remove(&cause.rejection);
        }
    }

    fn on_too_large(&mut self, jobs: usize, may_be_wrong: bool) {
        self.chunk_size.on_too_large(jobs, may_be_wrong);
        if self.chunk_size.most() < jobs {
            // A size that was applied earlier is too large now.
            self.applied_jobs_max = self.applied_jobs_max.min(jobs - 1);
        }
    }

    fn on_rejected(
        &mut self,
        group: Group,
        rejection: i64,
        scope: RejectionScope,
    ) -> IsolationResult {
        let Group { status, ids, suspects: released, cause, .. } = group;
        if let Some(cause) = &cause {
            self.forget_split(cause);
        }
        if let [id] = *ids.as_slice() {
            self.record_bad(status, id);
            return IsolationResult { released, ..IsolationResult::default() };
        }
        let parent = cause
            .filter(|cause| cause.scope == Some(RejectionScope::Questions))
            .map(|cause| Parent { jobs: cause.jobs, others: released.clone() });
        self.inferences.track(&released);
        let cause = SplitCause { rejection, scope: Some(scope), jobs: ids.len(), parent };
        let mut result = self.search(status, ids, cause, false);
        result.released.extend(released);
        result
    }

    /// Records that `id` is bad. Inferences from a rejection that it also explains are verified.
    fn record_bad(&mut self, status: TargetStatus, id: JobId) {
        self.models[index(status)].learn(id, true);
        self.ready.extend(self.inferences.on_bad(id).into_iter().map(alone));
    }

    /// Continues the isolation among `ids`, one of which is bad unless the group was too large. `is_rest`:
    /// all other jobs of the rejected group were applied.
    fn search(
        &mut self,
        status: TargetStatus,
        mut ids: Vec<JobId>,
        cause: SplitCause,
        is_rest: bool,
    ) -> IsolationResult {
        if ids.len() > self.chunk_size.most() {
            // This size is known to be too large now, so the rejection proves nothing about these questions.
            return IsolationResult { released: ids, ..IsolationResult::default() };
        }
        let size_is_accepted = cause.jobs <= self.applied_jobs_max;
        let is_about_questions = cause.scope == Some(RejectionScope::Questions);
        let kept = ids.clone();
        if let [id] = *ids.as_slice()
            && is_about_questions
        {
            self.infer(status, id, cause);
            return IsolationResult { kept, ..IsolationResult::default() };
        }
        // If the rejection may concern the size, sending all remaining jobs decides that at once.
        let whole = ids.len() == 1 || (is_rest && !is_about_questions && !size_is_accepted);
        let model = &mut self.models[index(status)];
        let suspects = if whole { Vec::new() } else { ids.split_off(model.cut(&ids)) };
        let cause = Some(cause);
        self.ready.push_back(Group { status, ids, suspects, cause, attempts: None });
        IsolationResult { kept, ..IsolationResult::default() }
    }

    /// Infers that `id` is bad, because all other jobs rejected with it were applied. A second rejected group
    /// must confirm it. Without a second group the question is sent alone.
    fn infer(&mut self, status: TargetStatus, id: JobId, cause: SplitCause) {
        self.record_bad(status, id);
        let inference = match cause.parent.clone() {
            Some(parent) => self.inferences.add(status, id, cause, &parent),
            None => Some(Inference::unconfirmed(status, id, cause)),
        };
        self.ready.extend(inference.map(alone));
    }
}

/// A group with only the question of an inference.
fn alone(inference: Inference) -> Group {
    let Inference { status, id, cause, .. } = inference;
    Group { status, ids: vec![id], suspects: Vec::new(), cause: Some(cause), attempts: None }
}

fn index(status: TargetStatus) -> usize {
    match status {
        TargetStatus::Enable => 0,
        TargetStatus::Disable => 1,
        TargetStatus::Delete => 2,
    }
}
