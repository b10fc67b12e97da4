//! Deletes that were rejected together with others, and whether that request may have been applied.
//!
//! Pure. It is not documented whether a rejected request changes nothing or everything but the bad
//! questions. A question that was rejected with others, and does not exist when it is sent alone, may
//! have been deleted by the first request. That is ruled out once another delete of the same request is
//! applied later: then that request deleted nothing.

use std::collections::{HashMap, HashSet};

use crate::domain::job::JobId;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct RejectedChunks {
    /// The rejected requests that each job was in.
    requests_of: HashMap<JobId, Vec<i64>>,
    /// Rejected requests that deleted nothing.
    not_applied: HashSet<i64>,
}

impl RejectedChunks {
    /// The deletes `jobs` were rejected together.
    pub fn record_rejection(&mut self, jobs: &[JobId], request: i64) {
        for job in jobs {
            self.requests_of.entry(*job).or_default().push(request);
        }
    }

    /// The deletes `jobs` were applied, so no earlier request for them was.
    pub fn record_applied(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.not_applied.extend(self.requests_of.remove(job).into_iter().flatten());
        }
    }

    /// Whether a rejected request may have deleted the question of `job`.
    pub fn may_have_been_applied(&self, job: JobId) -> bool {
        let requests = self.requests_of.get(&job);
        requests.is_some_and(|requests| requests.iter().any(|id| !self.not_applied.contains(id)))
    }

    /// In how many rejected requests `job` was with others.
    pub fn count(&self, job: JobId) -> u32 {
        self.requests_of
            .get(&job)
            .map_or(0, |requests| u32::try_from(requests.len()).unwrap_or(u32::MAX))
    }

    /// Drops a job that has its outcome.
    pub fn forget(&mut self, job: JobId) {
        self.requests_of.remove(&job);
    }
}
