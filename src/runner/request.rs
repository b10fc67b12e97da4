//! The life of one request, top down: slot, claim, send, response, verdict, settle.
//!
//! The slot comes first, so that claimed jobs never wait for one. The claim is durable before the
//! request is sent, so that a crash leaves a request row and no unrecorded request. What each verdict
//! does to the jobs is in `settle.rs`.

use std::time::Duration;

use super::chunk_queue::Chunk;
use super::in_flight::{CompletedRequest, InFlightRequest};
use super::settle::Received;
use super::{ActiveRun, Clock, Event, Lease, QueueError, Transport};
use crate::desk::{Response, SetStatusRequest};
use crate::domain::clock::Moment;
use crate::domain::verdict::{ResponseKind, Verdict};
use crate::isolate::Group;
use crate::limiter::{BreakerChange, NextSlot, ResponseSignal};
use crate::queue::{Claimed, RequestResult, RunEnding};

/// The shortest wait for a job that is due and cannot be claimed, so that the run does not poll
/// the queue in a busy loop.
const WAIT_MIN: Duration = Duration::from_millis(1);

pub(super) enum Dispatch {
    Sent,
    /// Nothing can be sent before this moment or the next response.
    Until(Moment),
    /// Nothing can be sent before the next response.
    AfterResponse,
    /// No job remains.
    Nothing,
}

/// The jobs that a request may claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimFrom {
    /// The chunk queue first, then the free jobs.
    Anywhere,
    /// The last free job of the queue, alone: see [`Chunk::is_sample`].
    EndOfQueue,
}

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    /// Sends one request, if the rate limiter has a slot and there are jobs to claim.
    pub(super) async fn send_next(
        &mut self,
        lease: &Lease,
        from: ClaimFrom,
    ) -> Result<Dispatch, QueueError> {
        if self.in_flight.len() >= self.in_flight_max() {
            return Ok(Dispatch::AfterResponse);
        }
        match self.limiter.next_slot(self.clock.now()) {
            // The lease is checked only when a request could be sent now.
            NextSlot::Now => lease.check()?,
            NextSlot::At(moment) => return Ok(Dispatch::Until(moment)),
            NextSlot::AfterResponse => return Ok(Dispatch::AfterResponse),
        }
        let scheduled_ms = self.clock.wall_ms();
        let Some((claimed, chunk)) = self.claim(from, scheduled_ms).await? else {
            // The rate limiter keeps the slot for the next call.
            return self.next_due().await;
        };
        self.send(claimed, chunk).await?;
        Ok(Dispatch::Sent)
    }

    fn in_flight_max(&self) -> usize {
        let by_suspicion = self.liveness.in_flight_max(self.settings.rejections_max);
        self.settings.in_flight_max.min(self.limiter.in_flight_max()).min(by_suspicion)
    }

    async fn claim(
        &mut self,
        from: ClaimFrom,
        scheduled_ms: i64,
    ) -> Result<Option<(Claimed, Chunk)>, QueueError> {
        if from == ClaimFrom::EndOfQueue {
            return self.claim_sample(scheduled_ms).await;
        }
        if self.liveness.take_sample_request()
            && let Some(sample) = self.claim_sample(scheduled_ms).await?
        {
            return Ok(Some(sample));
        }
        while let Some(chunk) = self.chunks.next(self.clock.now()) {
            if let Some(reserved) = self.claim_reserved(chunk, scheduled_ms).await? {
                return Ok(Some(reserved));
            }
        }
        self.claim_free(scheduled_ms).await
    }

    /// Claims one job from the end of the queue.
    async fn claim_sample(
        &mut self,
        scheduled_ms: i64,
    ) -> Result<Option<(Claimed, Chunk)>, QueueError> {
        let claimed = self.queue.transaction.claim_last(self.status.run, scheduled_ms).await?;
        Ok(claimed.map(|claimed| {
            let group = self.chunks.free_group(claimed.status, claimed.ids());
            (claimed, Chunk { is_sample: true, ..Chunk::new(group) })
        }))
    }

    /// Claims the jobs of `chunk` that are still pending; `None` if all were cancelled or superseded.
    async fn claim_reserved(
        &mut self,
        mut chunk: Chunk,
        scheduled_ms: i64,
    ) -> Result<Option<(Claimed, Chunk)>, QueueError> {
        let Group { status, ids, .. } = &chunk.group;
        let run = self.status.run;
        let claimed =
            self.queue.transaction.claim_reserved(run, *status, ids, scheduled_ms).await?;
        let pending = claimed.as_ref().map(Claimed::ids).unwrap_or_default();
        if pending.len() < ids.len() {
            let suspects = self.chunks.shrink(&mut chunk, pending);
            self.queue.transaction.release(run, &suspects).await?;
        }
        Ok(claimed.map(|claimed| (claimed, chunk)))
    }

    /// Claims jobs that belong to no chunk yet.
    async fn claim_free(
        &mut self,
        scheduled_ms: i64,
    ) -> Result<Option<(Claimed, Chunk)>, QueueError> {
        let chunks = &self.chunks;
        let jobs_max = |status, first| chunks.free_group_size(status, first);
        let claimed =
            self.queue.transaction.claim_free(self.status.run, jobs_max, scheduled_ms).await?;
        Ok(claimed.map(|claimed| {
            let group = self.chunks.free_group(claimed.status, claimed.ids());
            (claimed, Chunk::new(group))
        }))
    }

    /// When the next job is due, if the run could not claim one now.
    async fn next_due(&mut self) -> Result<Dispatch, QueueError> {
        self.queue.commit().await?;
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        let free_ms = self.queue.queue.next_due_ms(self.status.run).await?;
        let reserved = self.chunks.next_due();
        let Some(free_ms) = free_ms else {
            let Some(reserved) = reserved else { return Ok(Dispatch::Nothing) };
            self.on_no_job_due(reserved.since(now)).await?;
            return Ok(Dispatch::Until(reserved));
        };
        if free_ms <= wall_ms && !self.in_flight.is_empty() {
            // The job is due but cannot be claimed: an older job of the same question is in flight.
            return Ok(Dispatch::AfterResponse);
        }
        let due_by = self.status.free_jobs_due_by;
        if free_ms > wall_ms && now >= due_by {
            // The wall clock was set back during the run.
            self.queue.queue.clear_waits(self.settings.app, wall_ms).await?;
            return Ok(Dispatch::Until(now));
        }
        let wait_ms = u64::try_from(free_ms.saturating_sub(wall_ms)).unwrap_or(0).max(1);
        let free = (now + Duration::from_millis(wait_ms)).min(due_by.max(now + WAIT_MIN));
        let next = reserved.map_or(free, |reserved| reserved.min(free));
        self.on_no_job_due(next.since(now)).await?;
        Ok(Dispatch::Until(next))
    }

    async fn send(&mut self, claimed: Claimed, chunk: Chunk) -> Result<(), QueueError> {
        self.queue.commit().await?;
        let status = claimed.status;
        let Claimed { request, jobs, .. } = claimed;
        let (count, in_doubt) = (jobs.len(), jobs.iter().any(|job| job.in_doubt));
        let call = SetStatusRequest {
            app: self.settings.app,
            status,
            ids: jobs.into_iter().map(|job| job.question_id).collect(),
            usersig: self.credentials.usersig(self.clock.wall_ms()),
        };
        self.status.totals.requests += 1;
        self.queue.emit(Event::Sent { request: request.id, status, jobs: count });
        let sent_at = self.clock.now();
        let request = InFlightRequest {
            claimed: request,
            chunk,
            in_doubt,
            ticket: self.limiter.on_send(sent_at),
            sent_at,
            usersig_version: self.credentials.version(),
        };
        self.in_flight.send(&self.transport, &self.clock, request, call);
        // Only now: a failure before would leave a request that was claimed and never sent.
        self.on_job_due().await
    }

    /// Settles one request by its response; the transaction is not committed yet. Returns the ending of the
    /// run, if the response ends it.
    pub(super) async fn handle_response(
        &mut self,
        completed: CompletedRequest,
    ) -> Result<Option<RunEnding>, QueueError> {
        let CompletedRequest { request, response, at } = completed;
        let verdict = response.kind.verdict();
        let latency = at.since(request.sent_at);
        let change = self.inform_limiter(&request, verdict, response.retry_after, at);
        let id = request.claimed.id;
        let received = self.receive(&request, response, at);
        let ending = match verdict {
            Verdict::Applied => self.settle_applied(request, received).await?,
            Verdict::Throttled => self.settle_throttled(request, received).await?,
            Verdict::Transient => self.settle_transient(request, received).await?,
            Verdict::Renew => self.settle_renew(request, received).await?,
            Verdict::Rejected => self.settle_rejected(request, received).await?,
            Verdict::Stop => self.settle_stop(received).await?,
        };
        let totals = self.status.totals;
        self.queue.emit_after_commit(Event::Settled { request: id, verdict, latency, totals });
        self.on_limiter_change(change).await?;
        self.save_learned_limits_periodically().await?;
        Ok(ending)
    }

    /// The response as the queue records it.
    fn receive(&self, request: &InFlightRequest, response: Response, at: Moment) -> Received {
        let Response { kind, info, http_status, retry_after } = response;
        let verdict = kind.verdict();
        let latency = at.since(request.sent_at);
        let settlement = RequestResult {
            request: request.claimed,
            run: self.status.run,
            verdict,
            responded_ms: self.clock.wall_ms(),
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            http_status,
            code: match kind {
                ResponseKind::Code(code) => Some(code),
                _ => None,
            },
            info,
        };
        tracing::debug!(
            request = request.claimed.id,
            verdict = verdict.name(),
            code = settlement.code,
            http_status,
            latency_ms = settlement.latency_ms,
            "response"
        );
        Received { kind, settlement, at, has_retry_after: retry_after.is_some() }
    }

    fn inform_limiter(
        &mut self,
        request: &InFlightRequest,
        verdict: Verdict,
        retry_after: Option<Duration>,
        at: Moment,
    ) -> BreakerChange {
        let signal = match verdict {
            Verdict::Applied | Verdict::Rejected => ResponseSignal::Evaluated,
            Verdict::Throttled => ResponseSignal::Throttled,
            Verdict::Transient => ResponseSignal::Failed,
            Verdict::Renew | Verdict::Stop => ResponseSignal::Neutral,
        };
        if signal == ResponseSignal::Evaluated {
            self.status.evaluated_requests += 1;
            self.credentials.on_evaluated(request.usersig_version);
        }
        self.limiter.on_response(request.ticket, signal, retry_after, at)
    }
}
