//! Outcomes of jobs that were not in the request whose response decides them.

use super::job::JobId;

/// The outcome of one job, by an earlier rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conclusion {
    pub job: JobId,
    /// The request that was rejected. The job gets its code and text.
    pub request: i64,
    /// Whether the job has succeeded: a delete in doubt whose question does not exist any more.
    pub is_done: bool,
    /// Whether it was alone in the request. A job in doubt that was not is asked alone.
    pub was_alone: bool,
    /// Whether an earlier request may have been applied although its response does not say so.
    pub in_doubt: bool,
    /// In how many rejected requests of this run the job was. A failed delete that was in others, of
    /// earlier runs, is in doubt too.
    pub rejections: u32,
}

/// What a response says about jobs that were not in its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conclusions {
    /// Jobs that get their outcome.
    pub jobs: Vec<Conclusion>,
    /// Jobs that are no longer reserved: any claim may take them.
    pub released: Vec<JobId>,
}

/// How many jobs got their outcome from [`Conclusions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Concluded {
    /// Deletes that were found done.
    pub succeeded: u64,
    pub failed: u64,
}
