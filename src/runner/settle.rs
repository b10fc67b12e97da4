//! What a response does to the jobs of its request: one function for each verdict.
//!
//! Each function records the response and settles the jobs in one transaction. The caller commits it before
//! anything is emitted or sent.

use super::chunk_queue::{Chunk, FailureHistory};
use super::credentials::Renewal;
use super::in_flight::InFlightRequest;
use super::liveness::is_done_despite_rejection;
use super::{ActiveRun, Clock, QueueError, RunEnding, Transport};
use crate::domain::clock::Moment;
use crate::domain::conclusions::Conclusions;
use crate::domain::job::TargetStatus;
use crate::domain::verdict::{RejectionSubject, ResponseKind};
use crate::evidence::Suspect;
use crate::isolate::{Group, GroupResult, IsolationResult, RejectionScope};
use crate::queue::{RequestResult, RequeueOptions};

/// A chunk is split after this many attempts.
const ATTEMPTS_BEFORE_SPLIT: u32 = 2;
/// A request that fails this slowly is split after one attempt: each attempt costs a timeout.
const SLOW_MS: u64 = 4_000;
/// The fewest requests without a usable response after which a question alone fails.
const FAILURES_ALONE_MIN: u32 = 2;

/// A response, ready to be recorded.
pub(super) struct Received {
    pub(super) kind: ResponseKind,
    pub(super) settlement: RequestResult,
    pub(super) at: Moment,
    pub(super) has_retry_after: bool,
}

impl Received {
    fn request(&self) -> i64 {
        self.settlement.request.id
    }

    /// The response and its text, for the report of the run.
    fn as_error(&self) -> (ResponseKind, String) {
        (self.kind, self.settlement.info.clone())
    }
}

/// The ending of the run, if the response ends it.
type Settled = Result<Option<RunEnding>, QueueError>;

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    /// Settles an applied request: its jobs succeed.
    pub(super) async fn settle_applied(
        &mut self,
        request: InFlightRequest,
        received: Received,
    ) -> Settled {
        let group = request.chunk.group;
        let proven = self.liveness.on_applied(&group, request.sent_at);
        let result = self.chunks.record(group, GroupResult::Applied);
        let conclusions = self.liveness.conclude(result, &proven);
        let done =
            self.queue.transaction.settle_succeeded(&received.settlement, &conclusions).await?;
        self.status.totals.succeeded += done.jobs;
        self.status.count_concluded(done.concluded);
        Ok(None)
    }

    /// Settles a throttled request: the same chunk is sent again, and no attempt counts.
    pub(super) async fn settle_throttled(
        &mut self,
        request: InFlightRequest,
        received: Received,
    ) -> Settled {
        self.status.totals.throttled += 1;
        self.requeue_at_once(request, &received).await
    }

    async fn requeue_at_once(&mut self, request: InFlightRequest, received: &Received) -> Settled {
        let run = Some(self.status.run);
        let how = RequeueOptions { reserved_by: run, ..RequeueOptions::default() };
        self.return_jobs(received, how).await?;
        self.chunks.requeue(self.clock.now(), request.chunk);
        Ok(None)
    }

    /// Settles a request without a usable response: the same chunk is sent again after a wait.
    ///
    /// It counts as an attempt only if other requests were evaluated since the chunk last failed; otherwise
    /// the cause may be an outage. After enough attempts the chunk is split, or its only question fails. The
    /// last remaining chunk is split too: a part that is applied proves that there is no outage.
    pub(super) async fn settle_transient(
        &mut self,
        request: InFlightRequest,
        mut received: Received,
    ) -> Settled {
        self.status.totals.transient += 1;
        self.status.last_error = Some(received.as_error());
        let Chunk { group, failures, .. } = request.chunk;
        let mut failures = failures.unwrap_or_else(FailureHistory::new);
        let in_doubt = received.kind.may_have_been_applied();
        // A request that was never sent proves nothing about its questions.
        let is_attempt = in_doubt && failures.record(self.status.evaluated_requests);
        let is_last = in_doubt && self.is_last_chunk().await?;
        if self.gives_up_on(&group, &failures) {
            let (settlement, count) = (&mut received.settlement, failures.attempts.count);
            settlement.info = format!(
                "given up after {count} attempt{} while the app responded to other requests: {}",
                if count == 1 { "" } else { "s" },
                settlement.info
            );
            return self.settle_failed_alone(group, &received, in_doubt).await;
        }
        if must_split(&group, &failures, received.settlement.latency_ms, is_attempt, is_last) {
            return self.settle_split(group, &received, &failures, in_doubt).await;
        }
        // One question, or one part of a chunk, cannot prove that there is no outage.
        let is_small = group.ids.len() == 1 || group.attempts().is_some();
        let needs_read = is_last && is_small && !received.has_retry_after;
        self.liveness.on_transient(in_doubt && !is_attempt, needs_read);
        let wait = failures.backoff.next_wait(&mut self.random);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let not_before_ms = received.settlement.responded_ms.saturating_add(wait_ms);
        let run = Some(self.status.run);
        self.return_jobs(
            &received,
            RequeueOptions { reserved_by: run, not_before_ms, counts_as_attempt: true, in_doubt },
        )
        .await?;
        let chunk = Chunk { group, failures: Some(failures), is_sample: false };
        self.chunks.requeue(self.clock.now() + wait, chunk);
        Ok(None)
    }

    fn gives_up_on(&self, group: &Group, failures: &FailureHistory) -> bool {
        let attempts_max = self.settings.attempts_max;
        group.ids.len() == 1
            && failures.attempts.count >= attempts_max
            && failures.in_a_row >= FAILURES_ALONE_MIN.min(attempts_max)
    }

    /// Whether the only remaining jobs are those of the current chunk, and of chunks that also get no usable
    /// response.
    async fn is_last_chunk(&self) -> Result<bool, QueueError> {
        Ok(self.in_flight.is_empty()
            && self.chunks.has_only_failing()
            && self.queue.queue.next_due_ms(self.status.run).await?.is_none())
    }

    /// Splits the chunk into parts: one of its questions may make the service fail.
    async fn settle_split(
        &mut self,
        group: Group,
        received: &Received,
        failures: &FailureHistory,
        in_doubt: bool,
    ) -> Settled {
        let result = self.chunks.split(group, received.request(), failures.attempts);
        let conclusions = Conclusions { released: result.released, ..Conclusions::default() };
        self.reserve_jobs(received, in_doubt, &conclusions).await?;
        Ok(None)
    }

    /// Settles a rejected UserSig: the same chunk is sent again with a new one.
    pub(super) async fn settle_renew(
        &mut self,
        request: InFlightRequest,
        received: Received,
    ) -> Settled {
        let (now, now_ms) = (self.clock.now(), self.clock.wall_ms());
        match self.credentials.renew_after_rejection(request.usersig_version, now, now_ms) {
            Renewal::Impossible => self.settle_stop(received).await,
            Renewal::Renewed | Renewal::AlreadyRenewed => {
                self.requeue_at_once(request, &received).await
            }
        }
    }

    /// Settles a request whose content the service rejected. Unless the code concerns only questions,
    /// `evidence` decides by later responses and reads what the rejection proves.
    pub(super) async fn settle_rejected(
        &mut self,
        request: InFlightRequest,
        received: Received,
    ) -> Settled {
        let (subject, in_doubt) = (received.kind.subject(), received.kind.may_have_been_applied());
        let Chunk { group, is_sample, .. } = request.chunk;
        self.liveness.evidence.record_rejection(subject, is_sample);
        if subject != RejectionSubject::Question {
            self.status.last_error = Some(received.as_error());
        }
        match *group.ids.as_slice() {
            [_] if subject == RejectionSubject::Question => {
                self.settle_failed_alone(group, &received, in_doubt).await?;
            }
            [job] => {
                let is_done =
                    is_done_despite_rejection(group.status, request.in_doubt, received.kind);
                self.settle_isolating(group, &received, subject, in_doubt).await?;
                self.liveness.evidence.hold_suspect(Suspect {
                    job,
                    request: received.request(),
                    subject,
                    is_done,
                    at: received.at,
                });
            }
            _ => {
                if group.status == TargetStatus::Delete {
                    self.liveness.rejected_chunks.record_rejection(&group.ids, received.request());
                }
                self.settle_isolating(group, &received, subject, in_doubt).await?;
            }
        }
        Ok(None)
    }

    async fn settle_failed_alone(
        &mut self,
        group: Group,
        received: &Received,
        in_doubt: bool,
    ) -> Settled {
        let result = self.record_rejection(group, received, RejectionSubject::Question);
        let conclusions = self.liveness.conclude(result, &[]);
        let settlement = &received.settlement;
        let done = self.queue.transaction.settle_failed(settlement, in_doubt, &conclusions).await?;
        self.status.totals.failed += done.jobs;
        self.status.count_concluded(done.concluded);
        Ok(None)
    }

    /// Keeps the jobs reserved. Several questions are isolated; one alone waits until `evidence` knows what
    /// its rejection concerns.
    async fn settle_isolating(
        &mut self,
        group: Group,
        received: &Received,
        subject: RejectionSubject,
        in_doubt: bool,
    ) -> Result<(), QueueError> {
        let result = self.record_rejection(group, received, subject);
        let conclusions = self.liveness.conclude(result, &[]);
        self.reserve_jobs(received, in_doubt, &conclusions).await
    }

    fn record_rejection(
        &mut self,
        group: Group,
        received: &Received,
        subject: RejectionSubject,
    ) -> IsolationResult {
        let scope = if subject == RejectionSubject::Call {
            RejectionScope::Request
        } else {
            RejectionScope::Questions
        };
        let rejection = received.request();
        self.chunks.record(group, GroupResult::Rejected { rejection, scope })
    }

    /// Settles a response after which no request would be accepted: the jobs are released and the run ends.
    pub(super) async fn settle_stop(&mut self, received: Received) -> Settled {
        self.status.last_error = Some(received.as_error());
        let how = RequeueOptions::default();
        self.return_jobs(&received, how).await?;
        let is_local = received.kind.is_local_fault();
        Ok(Some(if is_local { RunEnding::Outage } else { RunEnding::Rejected }))
    }

    /// Requeues the jobs (`in_flight → pending`) with the options in `how`.
    async fn return_jobs(
        &mut self,
        received: &Received,
        how: RequeueOptions,
    ) -> Result<(), QueueError> {
        let withdrawn = self
            .queue
            .transaction
            .requeue(&received.settlement, how, &Conclusions::default())
            .await?;
        self.status.totals.withdrawn += withdrawn;
        Ok(())
    }

    /// Requeues the jobs (`in_flight → pending`), reserved by this run and due at once, and records the
    /// conclusions for other jobs.
    async fn reserve_jobs(
        &mut self,
        received: &Received,
        in_doubt: bool,
        conclusions: &Conclusions,
    ) -> Result<(), QueueError> {
        let run = Some(self.status.run);
        let how = RequeueOptions {
            reserved_by: run,
            counts_as_attempt: true,
            in_doubt,
            ..RequeueOptions::default()
        };
        let settlement = &received.settlement;
        let withdrawn = self.queue.transaction.requeue(settlement, how, conclusions).await?;
        self.status.totals.withdrawn += withdrawn;
        Ok(())
    }
}

/// Whether a chunk without a usable response is split now.
fn must_split(
    group: &Group,
    failures: &FailureHistory,
    latency_ms: u64,
    is_attempt: bool,
    is_last: bool,
) -> bool {
    if group.ids.len() == 1 {
        return false;
    }
    let enough = if latency_ms >= SLOW_MS { 1 } else { ATTEMPTS_BEFORE_SPLIT };
    let is_part = group.attempts().is_some();
    let has_enough_attempts = is_attempt && (is_part || failures.attempts.count >= enough);
    has_enough_attempts || (is_last && !is_part && failures.in_a_row >= enough)
}
