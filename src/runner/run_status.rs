//! The status of a run: its totals so far, and its wait reason.
//!
//! A wait is emitted as an event for listeners in this process, and recorded in the queue for `status` in
//! another process.

use std::time::Duration;

use super::{ActiveRun, Clock, Event, QueueError, Totals, Transport};
use crate::domain::clock::Moment;
use crate::domain::conclusions::Concluded;
use crate::domain::verdict::ResponseKind;
use crate::limiter::{BreakerChange, CloseReason};
use crate::queue::{RunId, Wait, WaitReason};

/// A shorter wait for the next due job is not published.
const NOT_DUE_MIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct RunStatus {
    pub(super) run: RunId,
    pub(super) totals: Totals,
    /// Requests whose content the service evaluated, including reads that prove it.
    pub(super) evaluated_requests: u64,
    /// The response that ended the run, or the last failure, with its text.
    pub(super) last_error: Option<(ResponseKind, String)>,
    /// The run stops at this many failed jobs.
    pub(super) failed_jobs_max: Option<u64>,
    /// The moment when every free job is due, whatever the wall clock shows: no earlier run lets a job wait
    /// longer.
    pub(super) free_jobs_due_by: Moment,
    /// Whether the run sends no more requests.
    is_stopping: bool,
    /// The published wait, and its earliest end.
    published_wait: Option<(WaitReason, Moment)>,
}

impl RunStatus {
    pub(super) fn new(run: RunId) -> Self {
        Self {
            run,
            totals: Totals::default(),
            evaluated_requests: 0,
            last_error: None,
            failed_jobs_max: None,
            free_jobs_due_by: Moment::default(),
            is_stopping: false,
            published_wait: None,
        }
    }

    /// Whether `failed` jobs reach the failure limit.
    pub(super) fn reaches_failure_limit(&self, failed: u64) -> bool {
        self.failed_jobs_max.is_some_and(|most| failed >= most)
    }

    /// Counts jobs that got their outcome after their own response.
    pub(super) fn count_concluded(&mut self, concluded: Concluded) {
        self.totals.succeeded += concluded.succeeded;
        self.totals.succeeded_in_doubt += concluded.succeeded;
        self.totals.failed += concluded.failed;
    }
}

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    /// Publishes that the rate limiter closed or opened.
    pub(super) async fn on_limiter_change(
        &mut self,
        change: BreakerChange,
    ) -> Result<(), QueueError> {
        if self.status.is_stopping {
            // The run waits for its last responses and not for the rate limiter.
            return Ok(());
        }
        match change {
            BreakerChange::None => Ok(()),
            BreakerChange::Opened => self.publish_resumed().await,
            BreakerChange::Closed { reason, until } => self.publish_closed(reason, until).await,
        }
    }

    pub(super) async fn publish_resumed(&mut self) -> Result<(), QueueError> {
        self.status.published_wait = None;
        self.queue.commit().await?;
        self.queue.queue.set_wait(self.status.run, None).await?;
        self.queue.emit(Event::Resumed);
        Ok(())
    }

    /// Publishes that no job is due for the time `wait`, unless the run waits for something else.
    pub(super) async fn on_no_job_due(&mut self, wait: Duration) -> Result<(), QueueError> {
        let until = self.clock.now() + wait;
        let is_published = match self.status.published_wait {
            None => false,
            Some((WaitReason::NotDue, published)) => published + NOT_DUE_MIN > until,
            Some(_) => true,
        };
        if wait < NOT_DUE_MIN || is_published || !self.in_flight.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.wall_ms();
        self.publish_wait(WaitReason::NotDue, now_ms, wait).await
    }

    /// Publishes that a job is due again.
    pub(super) async fn on_job_due(&mut self) -> Result<(), QueueError> {
        match self.status.published_wait {
            Some((WaitReason::NotDue, _)) => self.publish_resumed().await,
            _ => Ok(()),
        }
    }

    async fn publish_closed(
        &mut self,
        reason: CloseReason,
        until: Moment,
    ) -> Result<(), QueueError> {
        let (now, now_ms) = (self.clock.now(), self.clock.wall_ms());
        let (reason, since_ms) = match reason {
            CloseReason::Frequency => (WaitReason::Throttled, now_ms),
            CloseReason::Outage => {
                let failing = self.limiter.failing_since().map(|since| now.since(since));
                let since_ms = now_ms.saturating_sub(ms(failing.unwrap_or_default())).max(0);
                (WaitReason::Outage, since_ms)
            }
        };
        self.publish_wait(reason, since_ms, until.since(now)).await
    }

    async fn publish_wait(
        &mut self,
        reason: WaitReason,
        since_ms: i64,
        wait: Duration,
    ) -> Result<(), QueueError> {
        self.queue.commit().await?;
        self.status.published_wait = Some((reason, self.clock.now() + wait));
        tracing::info!(?reason, wait_ms = ms(wait), "sending paused");
        let until_ms = self.clock.wall_ms().saturating_add(ms(wait));
        let wait_row = Wait { reason, since_ms, until_ms };
        self.queue.queue.set_wait(self.status.run, Some(wait_row)).await?;
        self.queue.emit(Event::Waiting { reason, wait, since_ms });
        Ok(())
    }

    /// Publishes that the run sends no more requests.
    pub(super) async fn announce_shutdown(&mut self) -> Result<(), QueueError> {
        self.status.is_stopping = true;
        self.queue.emit(Event::Stopping { in_flight: self.in_flight.len() });
        let since_ms = self.clock.wall_ms();
        let until_ms = since_ms.saturating_add(ms(self.settings.grace));
        let wait = Wait { reason: WaitReason::Responses, since_ms, until_ms };
        self.queue.queue.set_wait(self.status.run, Some(wait)).await
    }
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
