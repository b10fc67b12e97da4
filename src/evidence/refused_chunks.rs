//! Deletes that were rejected together with others, and whether their request may have been
//! applied all the same.
//!
//! Pure. The service does not say whether a rejected request changes nothing or all but the bad
//! questions. A question that was rejected with others and does not exist when it is asked alone
//! may have been deleted by the first request. That is not so if another delete of the same
//! request is applied later: then that request has deleted nothing.

use std::collections::{HashMap, HashSet};

use crate::domain::job::JobId;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct RefusedChunks {
    /// The rejected requests that each job was in.
    requests_of: HashMap<JobId, Vec<i64>>,
    /// Requests that have deleted nothing.
    harmless: HashSet<i64>,
}

impl RefusedChunks {
    /// These deletes were rejected together.
    pub fn rejected(&mut self, jobs: &[JobId], request: i64) {
        for job in jobs {
            self.requests_of.entry(*job).or_default().push(request);
        }
    }

    /// These were applied, so none of the requests that they were in before was.
    pub fn applied(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.harmless.extend(self.requests_of.remove(job).into_iter().flatten());
        }
    }

    /// Whether a request that this one was rejected in may have deleted it.
    pub fn may_have_applied(&self, job: JobId) -> bool {
        let requests = self.requests_of.get(&job);
        requests.is_some_and(|requests| requests.iter().any(|id| !self.harmless.contains(id)))
    }

    /// In how many rejected requests it was with others.
    pub fn count(&self, job: JobId) -> u32 {
        self.requests_of
            .get(&job)
            .map_or(0, |requests| u32::try_from(requests.len()).unwrap_or(u32::MAX))
    }

    /// Forgets a job that has its outcome.
    pub fn forget(&mut self, job: JobId) {
        self.requests_of.remove(&job);
    }
}
