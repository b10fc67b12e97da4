//! The values that cross the queue's API.

use std::time::Duration;

use crate::domain::conclusions::Concluded;
use crate::domain::job::{App, Job, JobId, TargetStatus};
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::domain::plan_digest::JobSetDigest;
use crate::domain::verdict::Verdict;
use crate::queue::{BatchId, RequestId, RunId};

/// What the manifest's reader counted; becomes the batch's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTotals {
    /// What the batch is called in reports.
    pub name: String,
    /// Where the manifest came from.
    pub source: String,
    /// SHA-256 of the manifest and of the options that change its meaning, 64 hex digits.
    pub digest: String,
    /// Rows read.
    pub rows: u64,
    /// Rows that said again what another row said.
    pub duplicates: u64,
    /// Rows that were bad and left out.
    pub rejected: u64,
}

/// Whether a manifest that is already in the queue makes a new batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameManifest {
    /// No: its batch is resumed, or is finished.
    Continues,
    /// Yes: `--reimport`.
    Again,
}

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// A new batch is in the queue.
    New {
        /// Its number.
        batch: BatchId,
        /// Jobs of older batches that it has superseded.
        superseded: u64,
    },
    /// The same manifest is in the queue already; nothing was changed.
    Known {
        /// The number of its batch.
        batch: BatchId,
    },
}

/// What an import would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The batch that the same manifest made before, if it would continue that one.
    pub known: Option<BatchId>,
    /// Jobs of older batches that it would supersede.
    pub superseded: u64,
    /// The app's open jobs after it, by status, in the order of `TargetStatus::ALL`.
    pub open: [u64; 3],
}

/// Identifies an approval within its queue file.
pub type ApprovalId = i64;

/// The jobs of a run that an approval is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Covers {
    /// All jobs of a plan. A run with such an approval sends nothing else.
    Plan,
    /// The deletes. A run with such an approval also sends enables and disables, which need none.
    Deletes,
}

impl Covers {
    /// The word in the database.
    pub(in crate::queue) fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the approval is about jobs of `status`.
    pub(in crate::queue) fn is_about(self, status: TargetStatus) -> bool {
        self == Self::Plan || status == TargetStatus::Delete
    }
}

/// An approval that was given earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub id: ApprovalId,
    /// The conditions under which the approval was given.
    pub terms: String,
    /// Its open jobs.
    pub open: u64,
    /// Its failed jobs whose question no later import covers.
    pub failed: u64,
    /// Jobs that it no longer covers, since they were retried or approved again.
    pub uncovered: u64,
}

/// The open jobs of an app, for a run with a given approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenJobs {
    /// The jobs that the run sends.
    pub to_send: u64,
    /// The jobs that the run does not send, since its approval does not cover them.
    pub unapproved: u64,
}

/// The jobs that a run would send if the import were committed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// All of these jobs.
    pub open: JobSetDigest,
    /// The part of them that was in the queue before the import.
    pub pending: JobSetDigest,
    /// How many of them may have been applied already: they are in flight or in doubt.
    pub in_doubt: u64,
    /// The first questions to be deleted, ordered by their ids.
    pub deletes: Vec<String>,
}

/// A batch, with the number of its jobs by state.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchSummary {
    /// The number of the batch.
    pub id: BatchId,
    /// The name of the batch.
    pub name: String,
    /// The source of its manifest: a path or standard input.
    pub source: String,
    /// The time of the import, in UTC milliseconds.
    pub created_ms: i64,
    /// The number of its jobs.
    pub jobs: i64,
    /// Pending jobs and jobs in flight.
    pub unfinished: i64,
    /// Failed jobs.
    pub failed: i64,
    /// Cancelled jobs.
    pub cancelled: i64,
}

/// The effect of `cancel` on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// Pending jobs that are now cancelled.
    pub pending: u64,
    /// Of these, the jobs in doubt: they may have been applied.
    pub in_doubt: u64,
    /// Jobs in flight. Their responses decide; without a response they are cancelled and in doubt.
    pub in_flight: u64,
}

/// The effect of `retry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// Failed jobs that are now pending.
    pub pending: u64,
    /// Failed jobs that stay failed, since a later import covers their question.
    pub superseded: u64,
    /// Cancelled jobs of the same batches; a retry does not include them.
    pub cancelled: u64,
}

/// What a prune deleted, or would delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Batches whose jobs were deleted.
    pub batches: u64,
    pub jobs: u64,
    /// Requests that no job refers to any more; 0 in a preview.
    pub requests: u64,
    /// Whether the file keeps its size, since another process has it open.
    pub room_kept: bool,
}

/// A chunk: the claimed jobs, and the request that carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub request: ClaimedRequest,
    /// The target status of all jobs.
    pub status: TargetStatus,
    /// The jobs, at least one, ordered by their ids.
    pub jobs: Vec<Job>,
}

impl Claimed {
    /// The ids of its jobs.
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.id).collect()
    }
}

/// A request with a row that is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedRequest {
    pub id: RequestId,
    /// The number of jobs in it.
    pub jobs: u64,
}

/// The response of a request, as its row records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestResult {
    /// The request, with the number of jobs that its claim put into it.
    pub request: ClaimedRequest,
    /// The run that sent it.
    pub run: RunId,
    /// The meaning of the response.
    pub verdict: Verdict,
    /// When the response came or was given up, in UTC milliseconds.
    pub responded_ms: i64,
    /// The time from sending to the response, in milliseconds.
    pub latency_ms: u64,
    /// The HTTP status, if there is one.
    pub http_status: Option<u16>,
    /// The `ErrorCode`, if there is one.
    pub code: Option<i64>,
    /// The `ErrorInfo` of the service, or the error of the transport.
    pub info: String,
}

/// The effect of settling a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleCounts {
    /// Jobs of the request that got their outcome.
    pub jobs: u64,
    /// Other jobs that got their outcome from this response.
    pub concluded: Concluded,
}

/// How jobs are requeued. By default without delay, for any claim, and not as an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequeueOptions {
    /// The run that reserves them for its own next chunks; `None`: any claim may take them.
    pub reserved_by: Option<RunId>,
    /// The earliest time of their next request, in UTC milliseconds; 0: no delay.
    pub not_before_ms: i64,
    /// Whether the request counts as an attempt of its jobs.
    pub counts_as_attempt: bool,
    /// Whether the response was lost, so that the change may have been applied.
    pub in_doubt: bool,
}

/// The longest wait that a run sets for a job: its longest back-off with full jitter. A due time is a
/// wall-clock time, so a clock that was set back could prolong a wait; no wait exceeds this limit.
pub const DUE_WITHIN: Duration = Duration::from_millis(37_500);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RunEnding {
    /// No job remained to send.
    Drained,
    /// A signal requested a shutdown.
    Signal,
    /// The time limit of the run expired.
    TimeLimit,
    /// No request succeeded within the outage timeout.
    Outage,
    /// The service rejects this app or account.
    Rejected,
    /// Every request was rejected, and it is unknown whether the questions or the requests are wrong.
    Suspicious,
    /// More jobs failed than the run allows.
    FailureLimit,
    /// The queue or the program failed.
    Error,
}

impl RunEnding {
    /// The word in the database and in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A wait reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[derive(strum::EnumString, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum WaitReason {
    /// The service pushed back.
    Throttled,
    /// No request succeeds.
    Outage,
    /// No job is due yet: earlier requests for these questions got no valid response, so they are sent
    /// again after a back-off, or once the earlier request can no longer be applied.
    NotDue,
    /// The run ends and waits for the responses to its last requests.
    Responses,
}

impl WaitReason {
    /// The word in the database and in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The wait of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Wait {
    /// The reason.
    pub reason: WaitReason,
    /// The beginning of the wait, in UTC milliseconds.
    pub since_ms: i64,
    /// The earliest end of the wait, in UTC milliseconds.
    pub until_ms: i64,
}

/// The learned rate of an app.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppRate {
    pub app: App,
    /// The measured values.
    pub learned: LearnedRate,
    /// The time of the measurement, in UTC milliseconds.
    pub learned_ms: i64,
}

/// The learned chunk size of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppChunkSize {
    pub app: App,
    /// The measured limit.
    pub limit: LearnedChunkSize,
    /// The time of the measurement, in UTC milliseconds.
    pub learned_ms: i64,
}
