//! Whether the app is alive: reads from the app when the rejections leave that open, and records what the
//! read proves.
//!
//! Nothing is in flight during a read, so it shows the state of the app after every rejection. A read takes
//! no slot of the rate limiter: the service counts reads separately, and a run sends them one by one.

use std::time::Duration;

use super::request::ClaimFrom;
use super::{
    ActiveRun, Clock, Event, QueueError, RunEnding, RunnerSettings, Shutdown, ShutdownMode,
    Transport,
};
use crate::desk::{ReadRequest, Response};
use crate::domain::clock::Moment;
use crate::domain::conclusions::{Conclusion, Conclusions};
use crate::domain::job::TargetStatus;
use crate::domain::verdict::{RejectionSubject, ResponseKind, Verdict};
use crate::evidence::{Evidence, ReadEffect, ReadResult, RejectedChunks, Step, Suspect};
use crate::isolate::{Group, IsolationResult};
use crate::limiter::retry::Backoff;
use crate::limiter::{BreakerChange, CloseReason};

/// The least time between two reads: the service allows 5 a second.
const READ_SPACING: Duration = Duration::from_millis(250);
/// The waits after an inconclusive read: the read was throttled or got no usable response.
const REREAD_FIRST: Duration = Duration::from_secs(1);
const REREAD_LONGEST: Duration = Duration::from_secs(30);
/// The waits before the next read of an app that was alive in this run and is rejected now.
const RECHECK_WAITS: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(30)];

/// The evidence about the app, and the reads that a run sent.
#[derive(Debug, Default)]
pub(super) struct AppLiveness {
    pub(super) evidence: Evidence,
    pub(super) rejected_chunks: RejectedChunks,
    /// The number of reads.
    pub(super) reads: u64,
    last_read_at: Option<Moment>,
    /// Only chunks without a usable response remain, so only a read can rule out an outage.
    needs_read: bool,
    /// A chunk got no usable response, and no request was evaluated since. The next request is one question
    /// from the end of the queue, which that chunk cannot delay.
    needs_sample: bool,
    /// Every remaining job depends on the suspects.
    pub(super) has_only_suspects: bool,
}

impl AppLiveness {
    pub(super) fn in_flight_max(&self, rejections_max: u32) -> usize {
        self.evidence.in_flight_max(rejections_max)
    }

    /// Records that a request sent at `sent_at` was applied. Returns the suspects that this proves.
    pub(super) fn on_applied(&mut self, group: &Group, sent_at: Moment) -> Vec<Suspect> {
        if group.status == TargetStatus::Delete {
            self.rejected_chunks.record_applied(&group.ids);
        }
        self.evidence.record_applied(sent_at)
    }

    /// Records that a chunk without a usable response waits for its next request.
    pub(super) fn on_transient(&mut self, needs_sample: bool, needs_read: bool) {
        self.needs_sample = needs_sample;
        self.needs_read |= needs_read;
    }

    pub(super) fn take_sample_request(&mut self) -> bool {
        std::mem::take(&mut self.needs_sample)
    }

    /// The outcomes of jobs that were not in the last request: jobs that the isolation inferred, and proven
    /// suspects.
    pub(super) fn conclude(&mut self, result: IsolationResult, proven: &[Suspect]) -> Conclusions {
        let rejected_chunks = &mut self.rejected_chunks;
        let mut conclude = |job, request, is_done, was_alone| {
            let in_doubt = rejected_chunks.may_have_been_applied(job);
            let rejections = rejected_chunks.count(job) + u32::from(was_alone);
            rejected_chunks.forget(job);
            Conclusion { job, request, is_done, was_alone, in_doubt, rejections }
        };
        let mut jobs: Vec<Conclusion> = Vec::new();
        jobs.extend(result.inferred.iter().map(|(job, id)| conclude(*job, *id, false, false)));
        jobs.extend(proven.iter().map(|s| conclude(s.job, s.request, s.is_done, true)));
        Conclusions { jobs, released: result.released }
    }
}

/// The next action of the loop, as far as rejections decide it.
pub(super) enum NextAction {
    Send(ClaimFrom),
    /// Wait for a response.
    AwaitResponse,
    /// Restart the loop, because an outcome was recorded.
    Restart,
    End(RunEnding),
}

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    /// What the rejections so far require before the next request. If they require it, reads from the app and
    /// records proven suspects.
    pub(super) async fn next_action(
        &mut self,
        shutdown: &mut Shutdown,
    ) -> Result<NextAction, QueueError> {
        if self.liveness.needs_read && self.in_flight.is_empty() {
            self.liveness.needs_read = false;
            return self.check_for_outage(shutdown).await;
        }
        let mut step = self.next_step(true);
        if step != Step::Send && !self.in_flight.is_empty() {
            return Ok(NextAction::AwaitResponse);
        }
        let run = self.status.run;
        if step == Step::Sample && self.queue.queue.next_due_ms(run).await?.is_none() {
            step = self.next_step(false);
        }
        match step {
            Step::Send => Ok(NextAction::Send(ClaimFrom::Anywhere)),
            Step::Sample => Ok(NextAction::Send(ClaimFrom::EndOfQueue)),
            Step::RecordSuspects => {
                let proven = self.liveness.evidence.take_decided_suspects();
                self.record_proven(&proven).await?;
                Ok(NextAction::Restart)
            }
            Step::CheckApp => self.check_app(shutdown).await,
            Step::RecheckApp(times) => {
                let wait = RECHECK_WAITS.get(times as usize - 1).copied().unwrap_or(REREAD_LONGEST);
                match self.wait_for_app(wait, shutdown).await? {
                    Some(ending) => Ok(NextAction::End(ending)),
                    None => self.check_app(shutdown).await,
                }
            }
            Step::StopRefused => Ok(NextAction::End(RunEnding::Rejected)),
            Step::StopSuspicious => Ok(NextAction::End(RunEnding::Suspicious)),
        }
    }

    fn next_step(&self, has_other_jobs: bool) -> Step {
        let evidence = &self.liveness.evidence;
        let failed = self.status.totals.failed + evidence.suspect_count() as u64;
        let decide_now =
            self.liveness.has_only_suspects || self.status.reaches_failure_limit(failed);
        let RunnerSettings { rejections_max, .. } = self.settings;
        let now = self.clock.now();
        crate::evidence::decide(&evidence.facts(rejections_max, now, decide_now, has_other_jobs))
    }

    /// Reads from the app and records what the read proves.
    async fn check_app(&mut self, shutdown: &mut Shutdown) -> Result<NextAction, QueueError> {
        self.queue.commit().await?;
        let result = match self.read_until_conclusive(shutdown).await {
            Ok(result) => result,
            Err(ending) => return Ok(NextAction::End(ending)),
        };
        match self.liveness.evidence.record_read(result) {
            ReadEffect::Nothing => {}
            ReadEffect::Proven(suspects) => self.record_proven(&suspects).await?,
            ReadEffect::Recovered => {
                // Rejections before the recovery prove nothing about any question.
                self.liveness.evidence.take_suspects();
                self.chunks.clear();
                self.queue.transaction.release_all(self.status.run).await?;
                self.publish_resumed().await?;
            }
        }
        Ok(NextAction::Restart)
    }

    /// Reads once to rule out an outage.
    async fn check_for_outage(
        &mut self,
        shutdown: &mut Shutdown,
    ) -> Result<NextAction, QueueError> {
        self.queue.commit().await?;
        let response = match self.read_once(shutdown).await {
            Ok(response) => response,
            Err(ending) => return Ok(NextAction::End(ending)),
        };
        if ReadResult::from_response(response.kind) == ReadResult::Alive {
            self.status.evaluated_requests += 1;
            self.limiter.end_outage();
            self.chunks.reset_waits();
        }
        Ok(NextAction::Restart)
    }

    /// Reads until a read is conclusive, at most for the longest outage.
    async fn read_until_conclusive(
        &mut self,
        shutdown: &mut Shutdown,
    ) -> Result<ReadResult, RunEnding> {
        let began = self.clock.now();
        let mut backoff = Backoff::new(REREAD_FIRST, REREAD_LONGEST);
        loop {
            let Response { kind, info, .. } = self.read_once(shutdown).await?;
            let result = match kind.verdict() {
                Verdict::Renew if self.credentials.renew_for_read(self.clock.wall_ms()) => {
                    ReadResult::Inconclusive
                }
                _ => ReadResult::from_response(kind),
            };
            let took = self.clock.now().since(began);
            match result {
                ReadResult::Inconclusive if took > self.settings.outage_max => {
                    self.status.last_error = Some((kind, info));
                    return Err(RunEnding::Outage);
                }
                ReadResult::Inconclusive => {
                    let until = self.clock.now() + backoff.next_wait(&mut self.random);
                    self.sleep_until(until, shutdown).await?;
                }
                ReadResult::Dead => {
                    self.status.last_error = Some((kind, info));
                    return Ok(result);
                }
                ReadResult::Alive | ReadResult::Unavailable => return Ok(result),
            }
        }
    }

    async fn read_once(&mut self, shutdown: &mut Shutdown) -> Result<Response, RunEnding> {
        if let Some(last) = self.liveness.last_read_at {
            self.sleep_until(last + READ_SPACING, shutdown).await?;
        }
        self.liveness.last_read_at = Some(self.clock.now());
        self.liveness.reads += 1;
        let usersig = self.credentials.usersig(self.clock.wall_ms());
        let call = ReadRequest { app: self.settings.app, usersig };
        let transport = std::sync::Arc::clone(&self.transport);
        let response = tokio::select! {
            biased;
            () = shutdown.requested(ShutdownMode::Graceful) => return Err(shutdown.ending()),
            response = transport.read(&call) => response,
        };
        tracing::info!(response = %response.kind, "read from the app");
        Ok(response)
    }

    async fn sleep_until(&self, until: Moment, shutdown: &mut Shutdown) -> Result<(), RunEnding> {
        tokio::select! {
            biased;
            () = shutdown.requested(ShutdownMode::Graceful) => Err(shutdown.ending()),
            () = self.clock.sleep_until(until) => Ok(()),
        }
    }

    /// Waits before the next read of an app that was alive in this run and is rejected now. Returns the
    /// ending if a shutdown is requested meanwhile.
    async fn wait_for_app(
        &mut self,
        wait: Duration,
        shutdown: &mut Shutdown,
    ) -> Result<Option<RunEnding>, QueueError> {
        let until = self.clock.now() + wait;
        let reason = CloseReason::Outage;
        self.on_limiter_change(BreakerChange::Closed { reason, until }).await?;
        Ok(self.sleep_until(until, shutdown).await.err())
    }

    /// Records the outcomes of suspects whose rejection concerns their question.
    async fn record_proven(&mut self, proven: &[Suspect]) -> Result<(), QueueError> {
        let conclusions = self.liveness.conclude(IsolationResult::default(), proven);
        if conclusions.jobs.is_empty() {
            return Ok(());
        }
        let (run, now_ms) = (self.status.run, self.clock.wall_ms());
        let concluded = self.queue.transaction.conclude(run, &conclusions, now_ms).await?;
        self.status.count_concluded(concluded);
        self.queue.emit_after_commit(Event::Concluded { totals: self.status.totals });
        self.queue.commit().await
    }
}

/// Whether a job that was rejected alone is done, provided that the code concerns its question.
pub(super) fn is_done_despite_rejection(
    status: TargetStatus,
    in_doubt: bool,
    response: ResponseKind,
) -> bool {
    // An earlier delete lost its response, and now the question does not exist: the delete was applied, or
    // the question never existed. Either way the target status is reached.
    let is_missing = response.subject() == RejectionSubject::QuestionOrApp;
    in_doubt && status == TargetStatus::Delete && is_missing
}
