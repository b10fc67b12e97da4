//! The runner: slot, claim, send, verdict, settle, emit; until nothing is left.
//!
//! One task owns everything that changes: the gate, the work, the figures. Requests in
//! flight are tasks of their own that know nothing but their call. A slot comes first, the
//! claim second, sending third, so nothing that was claimed ages while it waits for a slot.
//! An answer and the claim that follows it at once are one turn to write; it is made durable
//! before anything is sent, told or waited for.
//! The runner never names a concrete transport, never prints, and never reads a clock but
//! the one it was given. Relies on the run lock being held by its caller.

mod chunk_queue;
mod dispatch;
mod event;
mod failure_limit;
mod in_flight;
mod learned_limits;
mod liveness;
mod run_status;
mod settle;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use chunk_queue::Work;
use dispatch::Dispatch;
pub use event::{Event, Events, Totals};
pub use failure_limit::FailuresMax;
use in_flight::{Flight, Landed, unwound};
use liveness::{AppSight, Heeded};
pub use shutdown::{Shutdown, Stopper, Urgency, shutdown};

use crate::desk::{Signer, Transport};
use crate::domain::clock::{Clock, Moment};
use crate::domain::job::App;
use crate::domain::learned::SizeLimit;
use crate::domain::verdict::{Answer, Verdict};
use crate::limiter::Gate;
use crate::store::{
    ApprovalId, Return, RunEnding, RunId, RunLock, Settlement, Store, StoreError, Turn,
};

/// No answer is later: a transport limits its time by itself. Whoever moves the clock sees by
/// this sleep that the run has nothing else to do.
const ANSWER_LATEST: Duration = Duration::from_hours(24);

/// A run's own limits.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerSettings {
    /// Whose jobs are sent.
    pub app: App,
    /// The approval whose deletes alone are sent, and, where it is of a plan, whose other jobs
    /// alone; `None`: no delete is sent. Deletes that it does not cover stay pending.
    pub approved: Option<ApprovalId>,
    /// The most jobs in one request, at least 1.
    pub chunk_jobs_max: usize,
    /// The most requests in flight, at least 1; fewer while latency does not need them.
    pub in_flight_max: usize,
    /// Requests a second, above 0.
    pub rate: f64,
    /// How often a chunk may meet passing trouble while others get through.
    pub attempts_max: u32,
    /// How long nothing may get through before the run ends.
    pub outage_max: Duration,
    /// After so many rejections in a row, by codes that may be about the app or about the call,
    /// with nothing applied between them, the run looks whether the app is alive; 0: never, and
    /// every such code is about the questions.
    pub rejections_max: u32,
    /// So many failed jobs end the run; `None`: it goes on whatever fails.
    pub failures_max: Option<FailuresMax>,
    /// How long requests in flight are waited for when the run is asked to stop.
    pub grace: Duration,
    /// Decides the jitter of waits.
    pub seed: u64,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// Its number.
    pub run: RunId,
    /// How it ended.
    pub ending: RunEnding,
    /// What it did.
    pub totals: Totals,
    /// Jobs that a dead run had left in flight.
    pub orphans: u64,
    /// Of these, those that were cancelled or superseded meanwhile.
    pub orphans_withdrawn: u64,
    /// How often it has read from the app to see whether it is alive.
    pub reads: u64,
    /// The answer that ended it, or the last trouble before it ended, and the text with it.
    pub last_word: Option<(Answer, String)>,
    /// The number of failed jobs at which it was to stop.
    pub failures_max: Option<u64>,
    /// From taking the queue to the end.
    pub took: Duration,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Runner<C: Clock, T> {
    clock: C,
    store: Store,
    transport: Arc<T>,
    signer: Signer,
    settings: RunnerSettings,
    events: Events,
    /// What is written and not durable yet, and whom to tell what once it is.
    turn: Turn,
    untold: Vec<Event>,
    gate: Gate<C>,
    work: Work,
    flights: JoinSet<Landed>,
    totals: Totals,
    /// Requests whose content the service looked at.
    through: u64,
    /// How many UserSigs were made after one was refused, and when the last of them was, if
    /// nothing has got through with it yet.
    renewals: u64,
    renewal_unproven: Option<Moment>,
    /// What rejections prove, and what was read from the app.
    sight: AppSight,
    last_word: Option<(Answer, String)>,
    /// The limit in jobs, known once the run has begun.
    failures_max: Option<u64>,
    /// When to keep the next time what was learned.
    keep_at: Moment,
    /// When every free job is due, whatever the wall clock says: no earlier run has let one wait longer.
    due_by: Moment,
    /// Whether no more requests will leave, whatever becomes of the gate.
    stopping: bool,
    /// The size that is kept for the next run.
    size_kept: Option<SizeLimit>,
    random: fastrand::Rng,
}

impl<C: Clock, T: Transport> Runner<C, T> {
    /// A runner that has not begun.
    pub fn new(
        clock: C,
        store: Store,
        transport: T,
        signer: Signer,
        settings: RunnerSettings,
        events: Events,
    ) -> Self {
        Self {
            gate: Gate::new(settings.rate, clock.clone(), settings.seed),
            random: fastrand::Rng::with_seed(settings.seed),
            work: Work::new(settings.chunk_jobs_max),
            clock,
            turn: store.turn(),
            untold: Vec::new(),
            store,
            transport: Arc::new(transport),
            signer,
            settings,
            events,
            flights: JoinSet::new(),
            totals: Totals::default(),
            through: 0,
            renewals: 0,
            renewal_unproven: None,
            sight: AppSight::default(),
            last_word: None,
            failures_max: None,
            keep_at: Moment::default(),
            due_by: Moment::default(),
            stopping: false,
            size_kept: None,
        }
    }

    /// Drains the queue until nothing is left, or the run has to end.
    ///
    /// # Errors
    /// When the queue fails, or another process has taken it over. What was in flight then
    /// is returned by the next run.
    pub async fn run(
        mut self,
        lock: &RunLock,
        mut shutdown: Shutdown,
    ) -> Result<RunReport, StoreError> {
        let began = self.clock.now();
        let app = self.settings.app;
        let taken = self.store.begin_run(lock, app, self.clock.wall_ms()).await?;
        self.recall().await?;
        self.wait_out_earlier_runs(taken.last_left_ms);
        if let Some(approval) = self.settings.approved {
            self.store.bind_run(taken.run, approval).await?;
        }
        let open = self.store.open_of(app, self.settings.approved).await?.to_send;
        self.failures_max = self.settings.failures_max.map(|most| most.of(open));
        tracing::info!(run = taken.run, open, orphans = taken.orphans, "run began");
        self.events.send(Event::Began { run: taken.run, open, orphans: taken.orphans });

        let mut ending = self.drive(taken.run, lock, &mut shutdown).await;
        if ending.is_ok()
            && let Err(e) = self.wind_down(taken.run, &mut shutdown).await
        {
            ending = Err(e);
        }
        if let Ok(stopped) = ending {
            ending = self.unless_all_is_done(taken.run, stopped).await;
        }
        let kept = self.keep().await;
        let noted = ending.as_ref().map_or(RunEnding::Broken, |ending| *ending);
        let ended = self.store.end_run(taken.run, noted, self.clock.wall_ms()).await;
        self.events.send(Event::Ended { ending: noted });
        let ending = ending?;
        // The first that failed says why; a full disk spoils the connection for what follows.
        kept.and(ended)?;
        tracing::debug!(run = taken.run, ending = ending.name(), "the end of the run is recorded");
        Ok(RunReport {
            run: taken.run,
            ending,
            totals: self.totals,
            orphans: taken.orphans,
            orphans_withdrawn: taken.orphans_withdrawn,
            reads: self.sight.reads,
            last_word: self.last_word,
            failures_max: self.failures_max,
            took: self.clock.now().since(began),
        })
    }

    async fn drive(
        &mut self,
        run: RunId,
        lock: &RunLock,
        shutdown: &mut Shutdown,
    ) -> Result<RunEnding, StoreError> {
        let ending = self.send_all(run, lock, shutdown).await;
        // Whatever ended it, the answers that came before are to be kept.
        let kept = self.commit().await;
        ending.and_then(|ending| kept.map(|()| ending))
    }

    async fn send_all(
        &mut self,
        run: RunId,
        lock: &RunLock,
        shutdown: &mut Shutdown,
    ) -> Result<RunEnding, StoreError> {
        loop {
            if shutdown.is_asked() {
                return Ok(shutdown.ending());
            }
            if let Some(since) = self.gate.failing_since()
                && self.clock.now().since(since) > self.settings.outage_max
            {
                return Ok(RunEnding::Outage);
            }
            if self.too_many_failed() {
                return Ok(RunEnding::TooManyFailures);
            }
            let dispatched = match self.heed_rejections(run, shutdown).await? {
                Heeded::Send => self.dispatch(run, lock, false).await?,
                Heeded::Sample => self.dispatch(run, lock, true).await?,
                Heeded::AfterAnswer => Dispatch::AfterAnswer,
                Heeded::Again => continue,
                Heeded::End(ending) => return Ok(ending),
            };
            let wait_until = match dispatched {
                Dispatch::Sent => {
                    self.sight.drained = false;
                    continue;
                }
                Dispatch::Until(moment) => moment,
                Dispatch::Nothing if self.flights.is_empty() => {
                    if self.is_drained() {
                        return Ok(RunEnding::Drained);
                    }
                    continue;
                }
                Dispatch::AfterAnswer | Dispatch::Nothing => self.clock.now() + ANSWER_LATEST,
            };
            self.commit().await?;
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                () = shutdown.asked(Urgency::Finish) => return Ok(shutdown.ending()),
                Some(landed) = self.flights.join_next() => {
                    if let Some(ending) = self.land(run, unwound(landed)).await? {
                        return Ok(ending);
                    }
                }
                () = clock.sleep_until(wait_until) => {}
            }
        }
    }

    /// Nothing is left to send. What waits for a later response to be recorded is asked alone,
    /// or looked into, first.
    fn is_drained(&mut self) -> bool {
        if self.work.ask_inferred() {
            return false;
        }
        let was_drained = std::mem::replace(&mut self.sight.drained, true);
        was_drained || self.sight.evidence.suspects() == 0
    }

    /// Makes what was written durable, and tells of it then. Of what was undone nobody is told.
    async fn commit(&mut self) -> Result<(), StoreError> {
        let untold = std::mem::take(&mut self.untold);
        if self.turn.is_open() {
            self.turn.commit().await?;
            for event in untold {
                self.events.send(event);
            }
        }
        Ok(())
    }

    /// Awaits what is in flight, for as long as the grace lasts, and records it. What is
    /// still out then stays in flight in the queue, for the next run to return.
    async fn wind_down(&mut self, run: RunId, shutdown: &mut Shutdown) -> Result<(), StoreError> {
        if self.flights.is_empty() {
            return Ok(());
        }
        self.tell_of_stopping(run).await?;
        let clock = self.clock.clone();
        let grace_ends = clock.now() + self.settings.grace;
        loop {
            tokio::select! {
                biased;
                () = shutdown.asked(Urgency::Now) => return Ok(()),
                landed = self.flights.join_next() => {
                    let Some(landed) = landed else { return Ok(()) };
                    self.land(run, unwound(landed)).await?;
                    self.commit().await?;
                }
                () = clock.sleep_until(grace_ends) => return Ok(()),
            }
        }
    }
}
