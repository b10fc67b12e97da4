//! Deletes that were rejected together with others, and whether that request may have been applied.
//!
//! Pure. The service does not document whether a rejected request changes nothing or everything except the
//! bad questions. If a question was rejected with others and does not exist when it is sent alone, the first
//! request may have deleted it. A later applied delete from the same request rules that out: the request
//! deleted nothing.

use std::collections::{HashMap, HashSet};

use crate::domain::job::JobId;

/// The rejected requests of each job.
#[derive(Debug, Default)]
pub struct RejectedChunks {
    /// The rejected requests that contained each job.
    requests_of: HashMap<JobId, Vec<i64>>,
    /// Rejected requests that deleted nothing.
    not_applied: HashSet<i64>,
}

impl RejectedChunks {
    /// Records that the deletes `jobs` were rejected together.
    pub fn record_rejection(&mut self, jobs: &[JobId], request: i64) {
        for job in jobs {
            self.requests_of.entry(*job).or_default().push(request);
        }
    }

    /// Records that the deletes `jobs` were applied, so no earlier request for them was.
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

    /// The number of rejected requests that contained `job` and others.
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
