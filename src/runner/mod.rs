//! The runner: drains the queue for one app. It sends requests (`request.rs`), settles their responses
//! (`settle.rs`) and emits events, until no job remains or the run must end.
//!
//! One task owns all state. Each part keeps its fields private: the rate limiter, the chunk queue, the
//! requests in flight, the learned limits, the credentials, the liveness of the app, the status of the run. A
//! response and the claim directly after it share one transaction, which is committed before anything is
//! sent, emitted or awaited.
//!
//! The runner depends on no concrete transport, prints nothing, and reads only the clock that it is given.
//! Its caller holds the run lock.

mod chunk_queue;
mod credentials;
mod event;
mod in_flight;
mod learned_limits;
mod liveness;
mod queue_session;
mod request;
mod run_status;
mod settle;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use chunk_queue::ChunkQueue;
use credentials::Credentials;
pub use event::{Event, Events, Totals};
use in_flight::InFlight;
use learned_limits::LearnedLimits;
use liveness::{AppLiveness, NextAction};
use queue_session::QueueSession;
use request::Dispatch;
use run_status::RunStatus;
pub use shutdown::{Shutdown, ShutdownHandle, ShutdownMode, shutdown};

use crate::desk::{Signer, Transport};
use crate::domain::clock::Clock;
use crate::domain::deadline::Deadline;
use crate::domain::failure_limit::FailureLimit;
use crate::domain::job::App;
use crate::domain::verdict::ResponseKind;
use crate::limiter::RateLimiter;
use crate::queue::{ApprovalId, Lease, Queue, QueueError, Recovery, RunEnding, RunId};

/// No response takes longer than this, because a transport limits its own time. A test that advances the
/// clock to the next sleep recognises by this length that the run has nothing else to wait for.
const RESPONSE_LATEST: Duration = Duration::from_hours(24);

/// The limits of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerSettings {
    /// The app whose jobs are sent. A run replaces it by the app of its lease.
    pub app: App,
    /// The run sends only the deletes that this approval covers. If it approves a plan, the run also sends
    /// only the other jobs that it covers. `None`: no delete is sent. Other deletes stay pending.
    pub approved: Option<ApprovalId>,
    /// The most jobs in one request, at least 1.
    pub chunk_jobs_max: usize,
    /// The most requests in flight, at least 1. The run uses fewer if latency allows it.
    pub in_flight_max: usize,
    /// Requests a second, above 0.
    pub rate: f64,
    /// The most attempts of a chunk: requests without a usable response while other requests are evaluated.
    pub attempts_max: u32,
    /// The run ends after this time without any successful request.
    pub outage_max: Duration,
    /// The number of consecutive rejections after which the run checks whether the app is alive. It counts
    /// codes that may concern the app or the call, with nothing applied in between. 0 disables the check:
    /// every such code then concerns the questions.
    pub rejections_max: u32,
    /// The number of failed jobs at which the run ends; `None` means no limit.
    pub failures_max: Option<FailureLimit>,
    /// How long a run that ends waits for the responses of the requests in flight.
    pub grace: Duration,
    /// Seeds the jitter of waits.
    pub seed: u64,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    pub run: RunId,
    pub ending: RunEnding,
    pub totals: Totals,
    /// What dead runs had left in flight.
    pub recovery: Recovery,
    /// The number of reads that checked whether the app is alive.
    pub reads: u64,
    /// The response that ended the run, or the last failure before it ended, with its text.
    pub last_error: Option<(ResponseKind, String)>,
    /// The number of failed jobs at which the run was to stop.
    pub failures_max: Option<u64>,
    /// The time from the beginning of the run to its end.
    pub took: Duration,
}

/// A run before its start.
#[derive(Debug)]
pub struct Runner<C: Clock, T> {
    clock: C,
    queue: Queue,
    transport: T,
    signer: Signer,
    settings: RunnerSettings,
    events: Events,
}

/// A run between `begin_run` and `end_run`.
#[derive(Debug)]
struct ActiveRun<C: Clock, T> {
    clock: C,
    settings: RunnerSettings,
    transport: Arc<T>,
    queue: QueueSession,
    limiter: RateLimiter<C>,
    chunks: ChunkQueue,
    in_flight: InFlight,
    learned: LearnedLimits,
    credentials: Credentials,
    liveness: AppLiveness,
    status: RunStatus,
    random: fastrand::Rng,
}

impl<C: Clock, T: Transport> Runner<C, T> {
    pub fn new(
        clock: C,
        queue: Queue,
        transport: T,
        signer: Signer,
        settings: RunnerSettings,
        events: Events,
    ) -> Self {
        Self { clock, queue, transport, signer, settings, events }
    }

    /// Drains the queue until no job remains or the run must end.
    ///
    /// # Errors
    /// When the queue fails, or another process has taken it over. The next run requeues the jobs that are in
    /// flight then.
    pub async fn run(
        mut self,
        lease: &Lease,
        mut shutdown: Shutdown,
    ) -> Result<RunReport, QueueError> {
        let began = self.clock.now();
        // The queue claims jobs of the lease's app, so no other app may be sent to.
        self.settings.app = lease.app();
        let RunnerSettings { app, approved, failures_max, .. } = self.settings;
        let run = self.queue.begin_run(lease, self.clock.wall_ms()).await?;
        let recovery = lease.recovery();
        let mut active = ActiveRun::new(self, run);
        active.load_learned_limits().await?;
        active.respect_previous_run(recovery.last_sent_ms);
        let queue = active.queue.queue.clone();
        if let Some(approval) = approved {
            queue.bind_run(run, approval).await?;
        }
        let open = queue.open_jobs(app, approved).await?.to_send;
        active.status.failed_jobs_max = failures_max.map(|limit| limit.of(open));
        tracing::info!(run, open, orphans = recovery.orphans, "run began");
        active.queue.emit(Event::Began { run, open });

        let ending = active.run_to_end(lease, &mut shutdown).await;
        let saved = active.save_learned_limits().await;
        let recorded = ending.as_ref().map_or(RunEnding::Error, |ending| *ending);
        let ended = queue.end_run(run, recorded, active.clock.wall_ms()).await;
        active.queue.emit(Event::Ended { ending: recorded });
        let ending = ending?;
        // The first error names the cause: a full disk breaks the connection for later statements.
        saved.and(ended)?;
        tracing::debug!(run, ending = ending.name(), "the end of the run is recorded");
        Ok(RunReport {
            run,
            ending,
            totals: active.status.totals,
            recovery,
            reads: active.liveness.reads,
            last_error: active.status.last_error,
            failures_max: active.status.failed_jobs_max,
            took: active.clock.now().since(began),
        })
    }
}

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    fn new(runner: Runner<C, T>, run: RunId) -> Self {
        let Runner { clock, queue, transport, signer, settings, events } = runner;
        Self {
            limiter: RateLimiter::new(settings.rate, clock.clone(), settings.seed),
            random: fastrand::Rng::with_seed(settings.seed),
            chunks: ChunkQueue::new(settings.chunk_jobs_max),
            learned: LearnedLimits::new(settings.app),
            queue: QueueSession::new(queue, events),
            transport: Arc::new(transport),
            credentials: Credentials::new(signer),
            in_flight: InFlight::default(),
            liveness: AppLiveness::default(),
            status: RunStatus::new(run),
            clock,
            settings,
        }
    }

    async fn run_to_end(
        &mut self,
        lease: &Lease,
        shutdown: &mut Shutdown,
    ) -> Result<RunEnding, QueueError> {
        let ending = self.send_all(lease, shutdown).await;
        // Responses that arrived before an error are recorded too.
        let committed = self.queue.commit().await;
        let ending = ending.and_then(|ending| committed.map(|()| ending))?;
        self.drain_in_flight(shutdown).await?;
        self.drained_or(ending).await
    }

    async fn send_all(
        &mut self,
        lease: &Lease,
        shutdown: &mut Shutdown,
    ) -> Result<RunEnding, QueueError> {
        loop {
            if let Some(ending) = self.must_end(shutdown) {
                return Ok(ending);
            }
            let dispatch = match self.next_action(shutdown).await? {
                NextAction::Send(from) => self.send_next(lease, from).await?,
                NextAction::AwaitResponse => Dispatch::AfterResponse,
                NextAction::Restart => continue,
                NextAction::End(ending) => return Ok(ending),
            };
            let wait_until = match dispatch {
                Dispatch::Sent => {
                    self.liveness.has_only_suspects = false;
                    continue;
                }
                Dispatch::Until(moment) => moment,
                Dispatch::Nothing if self.in_flight.is_empty() => {
                    if self.is_drained() {
                        return Ok(RunEnding::Drained);
                    }
                    continue;
                }
                Dispatch::AfterResponse | Dispatch::Nothing => self.clock.now() + RESPONSE_LATEST,
            };
            self.queue.commit().await?;
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                () = shutdown.requested(ShutdownMode::Graceful) => return Ok(shutdown.ending()),
                Some(completed) = self.in_flight.next() => {
                    if let Some(ending) = self.handle_response(completed).await? {
                        return Ok(ending);
                    }
                }
                () = clock.sleep_until(wait_until) => {}
            }
        }
    }

    /// Whether the run must end before its next request.
    fn must_end(&self, shutdown: &Shutdown) -> Option<RunEnding> {
        if shutdown.is_requested() {
            return Some(shutdown.ending());
        }
        let failing_since = self.limiter.failing_since();
        let failing = failing_since.map(|since| self.clock.now().since(since));
        if failing.is_some_and(|failing| failing > self.settings.outage_max) {
            return Some(RunEnding::Outage);
        }
        let failed = self.status.totals.failed;
        self.status.reaches_failure_limit(failed).then_some(RunEnding::FailureLimit)
    }

    /// Whether the run is over when no job can be sent. Inferred questions are sent alone first, and suspects
    /// are decided first.
    fn is_drained(&mut self) -> bool {
        if self.chunks.verify_inferred() {
            return false;
        }
        let was_set = std::mem::replace(&mut self.liveness.has_only_suspects, true);
        was_set || self.liveness.evidence.suspect_count() == 0
    }

    /// A run whose last response reached the failure limit ends as drained if no job remains.
    async fn drained_or(&self, ending: RunEnding) -> Result<RunEnding, QueueError> {
        let (run, queue) = (self.status.run, &self.queue.queue);
        let has_jobs = ending != RunEnding::FailureLimit
            || !self.in_flight.is_empty()
            || queue.has_reserved_jobs(run).await?
            || queue.next_due_ms(run).await?.is_some();
        Ok(if has_jobs { ending } else { RunEnding::Drained })
    }

    /// Settles the requests in flight during the grace period. Requests without a response stay in flight in
    /// the queue; the next run requeues their jobs, in doubt. Time in which the process was stopped does not
    /// count.
    async fn drain_in_flight(&mut self, shutdown: &mut Shutdown) -> Result<(), QueueError> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        self.announce_shutdown().await?;
        let mut grace_period = Deadline::after(&self.clock, self.settings.grace);
        loop {
            let next = grace_period.run(&self.clock, self.in_flight.next());
            let completed = tokio::select! {
                biased;
                () = shutdown.requested(ShutdownMode::Immediate) => return Ok(()),
                completed = next => completed.flatten(),
            };
            let Some(completed) = completed else { return Ok(()) };
            self.handle_response(completed).await?;
            self.queue.commit().await?;
        }
    }
}
