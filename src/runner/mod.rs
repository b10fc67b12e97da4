//! The runner: slot, claim, send, verdict, settle, emit; until nothing is left.
//!
//! One task owns everything that changes: the gate, the work, the figures. Requests in
//! flight are tasks of their own that know nothing but their call. A slot comes first, the
//! claim second, sending third, so nothing that was claimed ages while it waits for a slot.
//! The runner never names a concrete transport, never prints, and never reads a clock but
//! the one it was given. Relies on the run lock being held by its caller.

mod event;
mod flight;
mod land;
mod learned;
mod limit;
mod shutdown;
mod waits;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub use event::{Event, Events, Totals};
use flight::{Flight, Landed, unwound};
pub use limit::FailuresMax;
pub use shutdown::{Shutdown, Stopper, Urgency, shutdown};
use work::{Chunk, Work};

use crate::clock::{Clock, Moment};
use crate::desk::{Call, Signer, Transport};
use crate::gate::{Gate, Next};
use crate::isolate::{Group, SizeLimit};
use crate::job::{App, Status};
use crate::store::{
    ApprovalId, Claimed, Return, RunEnding, RunId, RunLock, Settlement, Store, StoreError,
};
use crate::verdict::{Answer, Verdict};

/// No answer is later: a transport limits its time by itself. Whoever moves the clock sees by
/// this sleep that the run has nothing else to do.
const ANSWER_LATEST: Duration = Duration::from_hours(24);

/// A run's own limits.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerSettings {
    /// Whose jobs are sent.
    pub app: App,
    /// Whether somebody agreed to deletes; without that they stay pending, those too that
    /// are imported while the run goes on.
    pub deletes: bool,
    /// The approval whose jobs alone are sent; `None`: every job of the app.
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
    /// The same unknown code so often in a row ends the run; 0: never.
    pub unknown_max: u32,
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
    /// The unknown code that came last, and how often in a row.
    unknown: Option<(i64, u32)>,
    last_word: Option<(Answer, String)>,
    /// The limit in jobs, known once the run has begun.
    failures_max: Option<u64>,
    /// When to keep the next time what was learned.
    keep_at: Moment,
    /// Whether no more requests will leave, whatever becomes of the gate.
    stopping: bool,
    /// The size that is kept for the next run.
    size_kept: Option<SizeLimit>,
    random: fastrand::Rng,
}

/// What came of trying to send one more request.
enum Dispatch {
    Sent,
    /// Nothing can leave before this moment or the next answer.
    Until(Moment),
    /// Nothing can leave before the next answer.
    AfterAnswer,
    /// Nothing is left to send.
    Nothing,
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
            unknown: None,
            last_word: None,
            failures_max: None,
            keep_at: Moment::default(),
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
        let open = self.store.open_of(app, self.settings.approved).await?;
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
        tracing::info!(run = taken.run, ending = ending.name(), "run ended");
        Ok(RunReport {
            run: taken.run,
            ending,
            totals: self.totals,
            orphans: taken.orphans,
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
        loop {
            lock.check()?;
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
            let wait_until = match self.dispatch(run).await? {
                Dispatch::Sent => continue,
                Dispatch::Until(moment) => moment,
                Dispatch::Nothing if self.flights.is_empty() => return Ok(RunEnding::Drained),
                Dispatch::AfterAnswer | Dispatch::Nothing => self.clock.now() + ANSWER_LATEST,
            };
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

    /// Sends one request if one may leave and there is something to send.
    async fn dispatch(&mut self, run: RunId) -> Result<Dispatch, StoreError> {
        if self.flights.len() >= self.settings.in_flight_max.min(self.gate.in_flight_max()) {
            return Ok(Dispatch::AfterAnswer);
        }
        match self.gate.next(self.clock.now()) {
            Next::Go => {}
            Next::At(moment) => return Ok(Dispatch::Until(moment)),
            Next::AfterAnswer => return Ok(Dispatch::AfterAnswer),
        }
        let slot_ms = self.clock.wall_ms();
        if self.looks_elsewhere() && self.send_free(run, slot_ms).await? {
            return Ok(Dispatch::Sent);
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
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        let free_ms = self.store.next_due_ms(run, self.settings.deletes).await?;
        let held = self.work.next_due();
        let Some(free_ms) = free_ms else {
            return Ok(held.map_or(Dispatch::Nothing, Dispatch::Until));
        };
        if free_ms <= wall_ms && !self.flights.is_empty() {
            // Due, but not claimed: an older job for the same question is in flight.
            return Ok(Dispatch::AfterAnswer);
        }
        let wait_ms = u64::try_from(free_ms.saturating_sub(wall_ms)).unwrap_or(0).max(1);
        let free = now + Duration::from_millis(wait_ms);
        Ok(Dispatch::Until(held.map_or(free, |held| held.min(free))))
    }

    /// Whether one more unknown refusal would end the run. It should not be one that a
    /// search expects anyway, so other jobs are asked if there are any.
    fn looks_elsewhere(&self) -> bool {
        let most = self.settings.unknown_max;
        most > 0 && self.unknown.is_some_and(|(_, times)| times + 1 >= most)
    }

    /// Sends jobs that no chunk has had; `false` if there are none.
    async fn send_free(&mut self, run: RunId, slot_ms: i64) -> Result<bool, StoreError> {
        let work = &self.work;
        let deletes = self.settings.deletes;
        let jobs_max = |status, first| match status {
            Status::Delete if !deletes => 0,
            _ => work.free_jobs(status, first),
        };
        let Some(claimed) = self.store.claim_free(run, jobs_max, slot_ms).await? else {
            return Ok(false);
        };
        let group = self.work.free_group(claimed.status, claimed.ids());
        self.send(claimed, Chunk { group, trouble: None });
        Ok(true)
    }

    /// Sends what is left of a chunk of the run's own; `false` if nothing is.
    async fn send_again(
        &mut self,
        run: RunId,
        mut chunk: Chunk,
        slot_ms: i64,
    ) -> Result<bool, StoreError> {
        let Group { status, ids, .. } = &chunk.group;
        let claimed = self.store.claim_held(run, *status, ids, slot_ms).await?;
        let left = claimed.as_ref().map(Claimed::ids).unwrap_or_default();
        if left.len() < ids.len() {
            let suspects = chunk.group.shrink(left);
            self.store.free_held(run, &suspects).await?;
        }
        let Some(claimed) = claimed else { return Ok(false) };
        self.send(claimed, chunk);
        Ok(true)
    }

    fn send(&mut self, claimed: Claimed, chunk: Chunk) {
        let Claimed { request, status, jobs } = claimed;
        let call = Call {
            app: self.settings.app,
            status,
            ids: jobs.iter().map(|job| job.question_id.clone()).collect(),
            usersig: self.signer.current(self.clock.wall_ms()),
        };
        self.totals.requests += 1;
        self.events.send(Event::Left { request, status, jobs: jobs.len() });
        let left = self.clock.now();
        let flight = Flight {
            request,
            chunk,
            jobs,
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
                }
                () = clock.sleep_until(grace_ends) => return Ok(()),
            }
        }
    }
}
