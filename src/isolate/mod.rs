//! Which jobs to send together, and what an answer says of jobs that were not asked:
//! finds the bad questions of a queue in few requests.
//!
//! Pure: outcomes in, next group out; no clock, no IO. A group is as large as its chance
//! to pass makes worth while. One that is refused is cut in two where the first bad one
//! stands in either part with even odds, and one part is asked; if it passes, the other
//! holds the bad one, and that needs no request. Whatever was not asked goes back to the
//! pool as soon as it is no longer the one suspected. All searches of a run live in one
//! value, and none waits for another.
//!
//! What is concluded and not asked relies on one thing: that a group of that size would
//! pass if all in it were good. So nothing is concluded from groups larger than any that
//! passed, nor from codes that may speak of the request: there the last suspects are asked
//! too, and if they pass, the group was too large; how many are not is looked for then.

mod model;
mod size;

use std::collections::VecDeque;

use crate::job::{JobId, Status};
use model::Model;
use size::Size;
pub use size::SizeLimit;

/// The first group of a run is small: if everything is refused, little was risked.
const FIRST_JOBS: usize = 10;

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service took all of it.
    Applied,
    /// The service refused it as a whole.
    Refused {
        /// What the caller knows this refusal by.
        refusal: i64,
        /// What it speaks of.
        of: Blame,
    },
}

/// What a refusal speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The questions: one of them is bad, if the group is not larger than any that passes.
    Questions,
    /// The questions or the request itself, its size perhaps.
    Request,
    /// Neither: the group met trouble on its way again and again.
    Trouble,
}

/// The refusal that a search goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cause {
    refusal: i64,
    of: Blame,
    /// How many jobs were refused together.
    jobs: usize,
}

/// Jobs that go out together, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The status all of them shall have.
    pub status: Status,
    /// The jobs, at least one.
    pub ids: Vec<JobId>,
    /// If all of `ids` pass, one of these is bad.
    suspects: Vec<JobId>,
    /// The last refusal of the search that this group belongs to, if it does.
    cause: Option<Cause>,
}

impl Group {
    /// Some jobs of it are gone, cancelled or superseded, and `ids` are left. The bad one
    /// may have been among the gone, so the search is over. Returns those that were
    /// suspected and not asked; they belong back in the pool.
    pub fn shrink(&mut self, ids: Vec<JobId>) -> Vec<JobId> {
        self.ids = ids;
        self.cause = None;
        std::mem::take(&mut self.suspects)
    }
}

/// What an outcome says beyond the group itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// The search goes on among these.
    pub kept: Vec<JobId>,
    /// No longer suspected: back to the pool.
    pub freed: Vec<JobId>,
    /// A bad one that was not asked alone, and the refusal whose code is its own: all
    /// others that were refused with it have passed since.
    pub bad: Option<(JobId, i64)>,
}

/// The searches of a run, and what they have learned.
#[derive(Debug)]
pub struct Isolate {
    /// Groups to be asked, oldest first.
    ready: VecDeque<Group>,
    /// By status, in the order of [`Status::ALL`].
    models: [Model; 3],
    /// The most jobs that ever passed together.
    passed_jobs: usize,
    /// The most jobs to send together: what was asked for, or what the service takes.
    size: Size,
    /// Nothing is known yet.
    first: bool,
}

impl Isolate {
    /// Searches that have not begun, with at most `jobs_max` jobs (at least 1) a group.
    pub fn new(jobs_max: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            models: [Model::new(), Model::new(), Model::new()],
            passed_jobs: 0,
            size: Size::new(jobs_max),
            first: true,
        }
    }

    /// Begins with what an earlier run has learned of the most that the service takes.
    pub fn begin_with(&mut self, limit: SizeLimit) {
        self.size.begin_with(limit);
    }

    /// What was learned of the most that the service takes; `None` while nothing was refused
    /// for its size.
    pub fn size_limit(&self) -> Option<SizeLimit> {
        self.size.limit()
    }

    /// How many jobs of the pool to send together when `first` is the first of them.
    pub fn free_jobs(&self, status: Status, first: JobId) -> usize {
        let size = self.models[index(status)].group_size(first, self.size.most());
        if self.first { size.min(FIRST_JOBS) } else { size }
    }

    /// Jobs of the pool that leave together; as many as [`Isolate::free_jobs`] said.
    pub fn free_group(&mut self, status: Status, ids: Vec<JobId>) -> Group {
        self.size.sent(ids.len());
        Group { status, ids, suspects: Vec::new(), cause: None }
    }

    /// The group that a search wants asked next; `None` when none does now.
    pub fn next_group(&mut self) -> Option<Group> {
        self.ready.pop_front()
    }

    /// Whether no search wants anything asked.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes in what became of a group.
    pub fn record(&mut self, group: Group, outcome: Outcome) -> Findings {
        self.first = false;
        match outcome {
            Outcome::Applied => self.applied(group),
            Outcome::Refused { refusal, of } => {
                let cause = Cause { refusal, of, jobs: group.ids.len() };
                self.refused(group, cause)
            }
        }
    }

    fn applied(&mut self, group: Group) -> Findings {
        for id in &group.ids {
            self.models[index(group.status)].learn(*id, false);
        }
        self.passed_jobs = self.passed_jobs.max(group.ids.len());
        self.size.passed(group.ids.len());
        match group.cause {
            None => Findings::default(),
            Some(cause) if group.suspects.is_empty() => {
                // The last suspects have passed like all the others: nobody was bad, they
                // were too many.
                match cause.of {
                    Blame::Trouble => self.size.trouble(cause.jobs),
                    _ => self.size.too_many(cause.jobs),
                }
                Findings::default()
            }
            Some(cause) => self.search(group.status, group.suspects, cause, true),
        }
    }

    fn refused(&mut self, group: Group, cause: Cause) -> Findings {
        let Group { status, ids, suspects: freed, .. } = group;
        if let [alone] = ids.as_slice() {
            self.models[index(status)].learn(*alone, true);
            return Findings { freed, ..Findings::default() };
        }
        let mut findings = self.search(status, ids, cause, false);
        findings.freed.extend(freed);
        findings
    }

    /// Goes on among `ids`, one of which is bad, if the group was not just too large. `rest`:
    /// they are what is left of it, and all others of it have passed.
    fn search(
        &mut self,
        status: Status,
        mut ids: Vec<JobId>,
        cause: Cause,
        rest: bool,
    ) -> Findings {
        if ids.len() > self.size.most() {
            // Meanwhile it is known that so many are too many, so it says nothing of them.
            return Findings { freed: ids, ..Findings::default() };
        }
        let proven = cause.jobs <= self.passed_jobs;
        let model = &mut self.models[index(status)];
        if let [alone] = *ids.as_slice()
            && cause.of == Blame::Questions
            && proven
        {
            model.learn(alone, true);
            return Findings { bad: Some((alone, cause.refusal)), ..Findings::default() };
        }
        let kept = ids.clone();
        // If the refusal may have been for the size, whether the rest passes too tells at once.
        let whole = ids.len() == 1 || (rest && cause.of != Blame::Questions && !proven);
        let suspects = if whole { Vec::new() } else { ids.split_off(model.cut(&ids)) };
        self.ready.push_back(Group { status, ids, suspects, cause: Some(cause) });
        Findings { kept, ..Findings::default() }
    }
}

fn index(status: Status) -> usize {
    match status {
        Status::Enable => 0,
        Status::Disable => 1,
        Status::Delete => 2,
    }
}
