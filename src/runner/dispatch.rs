//! One more request: slot, claim, and off, if one may leave and there is something to send.
//!
//! What waits to be sent again comes before free jobs of the queue. Nothing leaves before its
//! claim is durable.

use std::sync::Arc;
use std::time::Duration;

use super::chunk_queue::Chunk;
use super::in_flight::{Flight, Landed};
use super::{Clock, Event, RunId, RunLock, Runner, StoreError, Transport};
use crate::desk::Call;
use crate::domain::clock::Moment;
use crate::isolate::Group;
use crate::limiter::Next;
use crate::store::Claimed;

/// The shortest wait, so that a job that is due and cannot be claimed is not asked for all the time.
const MOMENT: Duration = Duration::from_millis(1);

/// What came of trying to send one more request.
pub(super) enum Dispatch {
    Sent,
    /// Nothing can leave before this moment or the next answer.
    Until(Moment),
    /// Nothing can leave before the next answer.
    AfterAnswer,
    /// Nothing is left to send.
    Nothing,
}

impl<C: Clock, T: Transport> Runner<C, T> {
    /// Sends one request if one may leave, the queue is still this run's, and there is something
    /// to send. A `sample` is one question from elsewhere in the queue.
    pub(super) async fn dispatch(
        &mut self,
        run: RunId,
        lock: &RunLock,
        sample: bool,
    ) -> Result<Dispatch, StoreError> {
        let by_evidence = self.sight.evidence.in_flight_max(self.settings.rejections_max);
        let most = self.settings.in_flight_max.min(self.gate.in_flight_max()).min(by_evidence);
        if self.flights.len() >= most {
            return Ok(Dispatch::AfterAnswer);
        }
        match self.gate.next(self.clock.now()) {
            // While nothing may leave nobody need look.
            Next::Go => lock.check()?,
            Next::At(moment) => return Ok(Dispatch::Until(moment)),
            Next::AfterAnswer => return Ok(Dispatch::AfterAnswer),
        }
        let slot_ms = self.clock.wall_ms();
        if sample || std::mem::take(&mut self.sight.wants_sample) {
            let sent = self.send_sample(run, slot_ms).await?;
            if sample || matches!(sent, Dispatch::Sent) {
                return Ok(sent);
            }
        }
        while let Some(chunk) = self.work.next(self.clock.now()) {
            if self.send_again(run, chunk, slot_ms).await? {
                return Ok(Dispatch::Sent);
            }
        }
        if self.send_free(run, slot_ms).await? {
            return Ok(Dispatch::Sent);
        }
        self.next_due(run).await
    }

    /// When something will be due, now that nothing is.
    async fn next_due(&mut self, run: RunId) -> Result<Dispatch, StoreError> {
        self.commit().await?;
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        let free_ms = self.store.next_due_ms(run).await?;
        let held = self.work.next_due();
        let Some(free_ms) = free_ms else {
            return Ok(held.map_or(Dispatch::Nothing, Dispatch::Until));
        };
        if free_ms <= wall_ms && !self.flights.is_empty() {
            // Due, but not claimed: an older job for the same question is in flight.
            return Ok(Dispatch::AfterAnswer);
        }
        if free_ms > wall_ms && now >= self.due_by {
            // The wall clock was set back meanwhile.
            self.store.end_waits(self.settings.app, wall_ms).await?;
            return Ok(Dispatch::Until(now));
        }
        let wait_ms = u64::try_from(free_ms.saturating_sub(wall_ms)).unwrap_or(0).max(1);
        let free = (now + Duration::from_millis(wait_ms)).min(self.due_by.max(now + MOMENT));
        Ok(Dispatch::Until(held.map_or(free, |held| held.min(free))))
    }

    /// Sends jobs that no chunk has had; `false` if there are none.
    async fn send_free(&mut self, run: RunId, slot_ms: i64) -> Result<bool, StoreError> {
        let work = &self.work;
        let jobs_max = |status, first| work.free_jobs(status, first);
        let Some(claimed) = self.turn.claim_free(run, jobs_max, slot_ms).await? else {
            return Ok(false);
        };
        let group = self.work.free_group(claimed.status(), claimed.ids());
        self.send(claimed, Chunk::new(group)).await?;
        Ok(true)
    }

    /// Sends one question from the other end of the queue.
    async fn send_sample(&mut self, run: RunId, slot_ms: i64) -> Result<Dispatch, StoreError> {
        let Some(claimed) = self.turn.claim_last(run, slot_ms).await? else {
            return self.next_due(run).await;
        };
        let group = self.work.free_group(claimed.status(), claimed.ids());
        self.send(claimed, Chunk { is_sample: true, ..Chunk::new(group) }).await?;
        Ok(Dispatch::Sent)
    }

    /// Sends what is left of a chunk of the run's own; `false` if nothing is.
    async fn send_again(
        &mut self,
        run: RunId,
        mut chunk: Chunk,
        slot_ms: i64,
    ) -> Result<bool, StoreError> {
        let Group { status, ids, .. } = &chunk.group;
        let claimed = self.turn.claim_held(run, *status, ids, slot_ms).await?;
        let left = claimed.as_ref().map(Claimed::ids).unwrap_or_default();
        if left.len() < ids.len() {
            let suspects = chunk.group.shrink(left);
            self.turn.free_held(run, &suspects).await?;
        }
        let Some(claimed) = claimed else { return Ok(false) };
        self.send(claimed, chunk).await?;
        Ok(true)
    }

    async fn send(&mut self, claimed: Claimed, chunk: Chunk) -> Result<(), StoreError> {
        self.commit().await?;
        let status = claimed.status();
        let Claimed { carried, jobs } = claimed;
        let (number, in_doubt) = (jobs.len(), jobs.iter().any(|job| job.in_doubt));
        let call = Call {
            app: self.settings.app,
            status,
            ids: jobs.into_iter().map(|job| job.question_id).collect(),
            usersig: self.signer.current(self.clock.wall_ms()),
        };
        self.totals.requests += 1;
        self.events.send(Event::Left { request: carried.request(), status, jobs: number });
        let left = self.clock.now();
        let flight = Flight {
            carried,
            chunk,
            in_doubt,
            ticket: self.gate.leave(left),
            left,
            renewals: self.renewals,
        };
        let (transport, clock) = (Arc::clone(&self.transport), self.clock.clone());
        self.flights.spawn(async move {
            let reply = transport.send(&call).await;
            let at = clock.now();
            Landed { flight, reply, at }
        });
        Ok(())
    }
}
