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
//! What is concluded and not asked needs two rejected groups that agree (`inference.rs`), since
//! one rejection may have been wrong. From codes that may be about the request nothing is
//! concluded: there the last suspects are asked too, and if they pass, the group was too large;
//! how many are not is looked for then.
//!
//! A group whose requests get no usable response while others get through is cut into several
//! parts that are asked side by side, since each may cost a whole timeout.

mod bad_id_model;
mod chunk_size;
mod inference;

use std::collections::{HashMap, VecDeque};

use crate::domain::job::{JobId, Status};
use crate::domain::learned::SizeLimit;
use bad_id_model::Model;
use chunk_size::Size;
use inference::{Inference, Inferences};

/// The first group of a run is small: if everything is refused, little was risked.
const FIRST_JOBS: usize = 10;

/// Into how many parts a group is cut that gets no usable response. Five levels of two would
/// cost five timeouts for 100 jobs, two levels of ten more requests than three of five.
const TROUBLE_PARTS: usize = 5;

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
}

/// The refusal that a search goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    refusal: i64,
    /// What the refusal is about; `None`: the group got no usable response.
    of: Option<Blame>,
    /// How many jobs were refused together.
    jobs: usize,
    /// The rejected group that this one is a part of.
    parent: Option<Parent>,
}

/// A rejected group one level up in its search.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parent {
    /// How many jobs were rejected together.
    jobs: usize,
    /// Those of them that have not passed and are not in the part.
    others: Vec<JobId>,
}

/// What a group has been through whose requests got no usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strikes {
    /// How often, while other requests got through.
    pub count: u32,
    /// How many requests of the run had got through at the last of them.
    pub through_seen: u64,
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
    /// What the group was cut from has been through.
    strikes: Option<Strikes>,
}

impl Group {
    /// What the group that this one was cut from has been through, if its requests got no
    /// usable response.
    pub fn strikes(&self) -> Option<Strikes> {
        self.strikes
    }

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
    /// Bad ones that were not asked alone, each with the refusal whose code is its own: all
    /// others that were refused with it have passed since.
    pub inferred: Vec<(JobId, i64)>,
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
    /// Questions that are bad as far as one rejected group says.
    inferences: Inferences,
    /// Groups cut into parts for trouble, by refusal: their jobs, and the parts that have not
    /// passed yet.
    troubled: HashMap<i64, (usize, usize)>,
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
            inferences: Inferences::default(),
            troubled: HashMap::new(),
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
        Group { status, ids, suspects: Vec::new(), cause: None, strikes: None }
    }

    /// The group that a search wants asked next; `None` when none does now.
    pub fn next_group(&mut self) -> Option<Group> {
        self.ready.pop_front()
    }

    /// Whether no search wants anything asked.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether every group that waits was cut from one whose requests got no usable response.
    pub fn has_only_strikes(&self) -> bool {
        self.ready.iter().all(|group| group.strikes.is_some())
    }

    /// Wants the questions asked alone that are only inferred to be bad. For a run that has
    /// nothing else to send: no later response will confirm them.
    pub fn ask_inferred(&mut self) {
        let unconfirmed = self.inferences.take_all();
        self.ready.extend(unconfirmed.into_iter().map(alone));
    }

    /// Forgets every search, and how likely bad questions are: the refusals that they go back
    /// to prove nothing. All of their jobs belong back in the pool.
    pub fn forget_searches(&mut self) {
        self.ready.clear();
        self.inferences = Inferences::default();
        self.troubled.clear();
        self.models = [Model::new(), Model::new(), Model::new()];
    }

    /// Cuts a group into parts that are asked side by side: its requests get no usable
    /// response, and one of its questions may be why. Keeps all of its jobs.
    pub fn split(&mut self, group: Group, refusal: i64, strikes: Strikes) -> Findings {
        let Group { status, ids, suspects: freed, cause, .. } = group;
        self.first = false;
        if let Some(cause) = cause.filter(|cause| cause.of.is_none()) {
            self.troubled.remove(&cause.refusal);
        }
        let part = ids.len().div_ceil(TROUBLE_PARTS).max(1);
        self.troubled.insert(refusal, (ids.len(), ids.len().div_ceil(part)));
        let cause = Cause { refusal, of: None, jobs: ids.len(), parent: None };
        self.ready.extend(ids.chunks(part).map(|ids| Group {
            status,
            ids: ids.to_vec(),
            suspects: Vec::new(),
            cause: Some(cause.clone()),
            strikes: Some(strikes),
        }));
        Findings { kept: ids, freed, ..Findings::default() }
    }

    /// Takes in what became of a group.
    pub fn record(&mut self, group: Group, outcome: Outcome) -> Findings {
        self.first = false;
        match outcome {
            Outcome::Applied => self.applied(group),
            Outcome::Refused { refusal, of } => self.refused(group, refusal, of),
        }
    }

    fn applied(&mut self, group: Group) -> Findings {
        let jobs = group.ids.len();
        for id in &group.ids {
            self.models[index(group.status)].learn(*id, false);
        }
        self.passed_jobs = self.passed_jobs.max(jobs);
        self.size.passed(jobs);
        let inferred = self.inferences.passed(&group.ids);
        let overdue = self.inferences.take_overdue();
        self.ready.extend(overdue.into_iter().map(alone));
        let mut findings = match group.cause {
            None => Findings::default(),
            Some(cause) if cause.of.is_none() => {
                self.part_passed(&cause);
                Findings::default()
            }
            Some(cause) if group.suspects.is_empty() => {
                // The last suspects have passed like all the others: nobody was bad, they
                // were too many, or the rejection was wrong.
                self.too_many(cause.jobs, cause.of == Some(Blame::Questions));
                Findings::default()
            }
            Some(cause) => self.search(group.status, group.suspects, cause, true),
        };
        findings.inferred = inferred;
        findings
    }

    /// One part of a group that was cut for trouble has passed.
    fn part_passed(&mut self, cause: &Cause) {
        let Some((jobs, left)) = self.troubled.get_mut(&cause.refusal) else { return };
        *left -= 1;
        if *left == 0 {
            let jobs = *jobs;
            self.troubled.remove(&cause.refusal);
            self.size.trouble(jobs);
        }
    }

    fn too_many(&mut self, jobs: usize, may_be_wrong: bool) {
        self.size.too_many(jobs, may_be_wrong);
        if self.size.most() < jobs {
            // What passed once is too many now.
            self.passed_jobs = self.passed_jobs.min(jobs - 1);
        }
    }

    fn refused(&mut self, group: Group, refusal: i64, of: Blame) -> Findings {
        let Group { status, ids, suspects: freed, cause, .. } = group;
        if let [id] = *ids.as_slice() {
            self.note_bad(status, id);
            return Findings { freed, ..Findings::default() };
        }
        let parent = cause
            .filter(|cause| cause.of == Some(Blame::Questions))
            .map(|cause| Parent { jobs: cause.jobs, others: freed.clone() });
        self.inferences.leave(&freed);
        let cause = Cause { refusal, of: Some(of), jobs: ids.len(), parent };
        let mut findings = self.search(status, ids, cause, false);
        findings.freed.extend(freed);
        findings
    }

    /// This one is bad: what is inferred from a rejection that it explains as well has to be
    /// asked.
    fn note_bad(&mut self, status: Status, id: JobId) {
        self.models[index(status)].learn(id, true);
        self.ready.extend(self.inferences.refused(id).into_iter().map(alone));
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
        let kept = ids.clone();
        if let [id] = *ids.as_slice()
            && cause.of == Some(Blame::Questions)
        {
            self.infer(status, id, cause);
            return Findings { kept, ..Findings::default() };
        }
        // If the refusal may have been for the size, whether the rest passes too tells at once.
        let whole = ids.len() == 1 || (rest && cause.of != Some(Blame::Questions) && !proven);
        let model = &mut self.models[index(status)];
        let suspects = if whole { Vec::new() } else { ids.split_off(model.cut(&ids)) };
        let cause = Some(cause);
        self.ready.push_back(Group { status, ids, suspects, cause, strikes: None });
        Findings { kept, ..Findings::default() }
    }

    /// All others that were rejected with this one have passed: it is bad, once a second
    /// rejected group says so too. Without one it is asked alone.
    fn infer(&mut self, status: Status, id: JobId, cause: Cause) {
        self.note_bad(status, id);
        let inference = match cause.parent.clone() {
            Some(parent) => self.inferences.add(status, id, cause, &parent),
            None => Some(Inference::unconfirmed(status, id, cause)),
        };
        self.ready.extend(inference.map(alone));
    }
}

/// The question of an inference, asked alone.
fn alone(inference: Inference) -> Group {
    let Inference { status, id, cause, .. } = inference;
    Group { status, ids: vec![id], suspects: Vec::new(), cause: Some(cause), strikes: None }
}

fn index(status: Status) -> usize {
    match status {
        Status::Enable => 0,
        Status::Disable => 1,
        Status::Delete => 2,
    }
}
