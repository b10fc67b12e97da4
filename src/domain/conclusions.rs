//! Outcomes of jobs that were not in the request whose response decides them.

use super::job::JobId;

/// The outcome of one job, decided by an earlier rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conclusion {
    pub job: JobId,
    /// The rejected request. The job gets its code and text.
    pub request: i64,
    /// Whether the job has succeeded: a delete in doubt whose question no longer exists.
    pub is_done: bool,
    /// Whether it was alone in the request. A job in doubt that was not is sent alone.
    pub was_alone: bool,
    /// Whether an earlier request may have been applied although its response does not show it.
    pub in_doubt: bool,
    /// The number of rejected requests of this run that contained the job. A failed delete that was in other
    /// rejected requests, of earlier runs, is in doubt too.
    pub rejections: u32,
}

/// What a response shows about jobs that were not in its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conclusions {
    /// Jobs that get their outcome.
    pub jobs: Vec<Conclusion>,
    /// Jobs that are no longer reserved: any claim may take them.
    pub released: Vec<JobId>,
}

/// The number of jobs that got their outcome from [`Conclusions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Concluded {
    /// Deletes that were found to be done.
    pub succeeded: u64,
    pub failed: u64,
}
