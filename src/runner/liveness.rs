//! Whether the app is alive: looks at it where rejections leave that open, and records what the
//! look proves.
//!
//! Nothing is in flight while a run looks, so a read shows the app after every rejection. A read
//! needs no slot: the service counts reads apart, and a run sends them one by one.

use std::time::Duration;

use super::{
    Clock, Event, RunEnding, RunId, Runner, RunnerSettings, Shutdown, StoreError, Transport,
    Urgency,
};
use crate::desk::{ReadCall, Reply};
use crate::domain::clock::Moment;
use crate::domain::job::Status;
use crate::domain::verdict::{Answer, Verdict};
use crate::evidence::{About, Evidence, ReadSays, RefusedChunks, Seen, Step, Suspect};
use crate::isolate::Findings;
use crate::limiter::retry::Backoff;
use crate::limiter::{Change, ClosedFor};
use crate::store::{Conclusion, Conclusions};

/// The least between two reads: the service allows 5 in a second.
const READ_SPACING: Duration = Duration::from_millis(250);
/// After a read that said nothing: too fast, or trouble on the way.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LONGEST: Duration = Duration::from_secs(30);
/// An app that was alive and is refused now is looked at again after these.
const COMES_BACK: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(30)];

/// What a run knows of the app, and the reads that it has sent.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for and answered by itself")]
pub(super) struct AppSight {
    pub(super) evidence: Evidence,
    pub(super) refused_chunks: RefusedChunks,
    /// How many reads were sent.
    pub(super) reads: u64,
    /// When the last of them left.
    last_read: Option<Moment>,
    /// Nothing but a chunk that gets no usable response is left: whether anything gets through
    /// has to be seen by a read.
    pub(super) wants_proof_of_life: bool,
    /// The last response asked to wait before the next request: a read is one too.
    pub(super) asked_to_wait: bool,
    /// A chunk gets no usable response and nothing has got through since: the next request is
    /// one question from elsewhere, which the chunk cannot hold up.
    pub(super) wants_sample: bool,
    /// Nothing is left to send but what depends on the suspects.
    pub(super) drained: bool,
}

impl AppSight {
    /// What a response proves: what the searches have found, and suspects that were proven.
    pub(super) fn conclusions(&mut self, findings: Findings, proven: &[Suspect]) -> Conclusions {
        let refused_chunks = &mut self.refused_chunks;
        let mut conclude = |job, request, is_done, was_alone| {
            let in_doubt = refused_chunks.may_have_applied(job);
            let rejections = refused_chunks.count(job) + u32::from(was_alone);
            refused_chunks.forget(job);
            Conclusion { job, request, is_done, was_alone, in_doubt, rejections }
        };
        let mut jobs: Vec<Conclusion> = Vec::new();
        jobs.extend(findings.inferred.iter().map(|(job, id)| conclude(*job, *id, false, false)));
        jobs.extend(proven.iter().map(|s| conclude(s.job, s.request, s.is_done, true)));
        Conclusions { jobs, freed: findings.freed }
    }
}

impl<C: Clock, T: Transport> Runner<C, T> {
    /// What the rejections so far ask for before the next request; looks at the app and records
    /// what is proven.
    pub(super) async fn heed_rejections(
        &mut self,
        run: RunId,
        shutdown: &mut Shutdown,
    ) -> Result<Heeded, StoreError> {
        if self.sight.wants_proof_of_life && self.flights.is_empty() {
            self.sight.wants_proof_of_life = false;
            return self.prove_life(shutdown).await;
        }
        let mut step = self.next_step(true);
        if step != Step::Send && !self.flights.is_empty() {
            return Ok(Heeded::AfterAnswer);
        }
        if step == Step::Sample && self.store.next_due_ms(run).await?.is_none() {
            step = self.next_step(false);
        }
        match step {
            Step::Send => Ok(Heeded::Send),
            Step::Sample => Ok(Heeded::Sample),
            Step::Record => {
                let proven = self.sight.evidence.take_suspects();
                self.record_proven(run, &proven).await?;
                Ok(Heeded::Again)
            }
            Step::Look => self.look(run, shutdown).await,
            Step::LookAgain(times) => {
                let wait = COMES_BACK.get(times as usize - 1).copied().unwrap_or(AGAIN_LONGEST);
                match self.wait_for_app(run, wait, shutdown).await? {
                    Some(ending) => Ok(Heeded::End(ending)),
                    None => self.look(run, shutdown).await,
                }
            }
            Step::StopRefused => Ok(Heeded::End(RunEnding::Refused)),
            Step::StopSuspicious => Ok(Heeded::End(RunEnding::Suspicious)),
        }
    }

    fn next_step(&self, elsewhere: bool) -> Step {
        let evidence = &self.sight.evidence;
        let failed = self.totals.failed + evidence.suspects() as u64;
        let limit_is_near = self.failures_max.is_some_and(|most| failed >= most);
        let now = self.sight.drained || limit_is_near;
        let RunnerSettings { rejections_max, .. } = self.settings;
        crate::evidence::decide(&evidence.facts(rejections_max, self.clock.now(), now, elsewhere))
    }

    /// One read, and what it proves.
    async fn look(&mut self, run: RunId, shutdown: &mut Shutdown) -> Result<Heeded, StoreError> {
        self.commit().await?;
        let says = match self.read(shutdown).await {
            Ok(says) => says,
            Err(ending) => return Ok(Heeded::End(ending)),
        };
        match self.sight.evidence.read(says) {
            Seen::Nothing => {}
            Seen::Proven(suspects) => self.record_proven(run, &suspects).await?,
            Seen::CameBack => {
                // What was rejected meanwhile proves nothing of any question.
                self.sight.evidence.take_suspects();
                self.work.forget_searches();
                self.turn.free_all_held(run).await?;
                self.commit().await?;
                self.store.note_wait(run, None).await?;
                self.events.send(Event::Opened);
            }
        }
        Ok(Heeded::Again)
    }

    /// Whether anything gets through, where only chunks are left that get no usable response.
    async fn prove_life(&mut self, shutdown: &mut Shutdown) -> Result<Heeded, StoreError> {
        self.commit().await?;
        match self.read_once(shutdown).await {
            Err(ending) => return Ok(Heeded::End(ending)),
            Ok(Reply { answer, .. }) if ReadSays::of(answer) == ReadSays::Alive => {
                self.through += 1;
                self.gate.got_through();
                self.work.reset_waits();
            }
            Ok(_) => {}
        }
        Ok(Heeded::Again)
    }

    /// Reads until a read says something, for as long as an outage may last.
    async fn read(&mut self, shutdown: &mut Shutdown) -> Result<ReadSays, RunEnding> {
        let began = self.clock.now();
        let mut waits = Backoff::new(AGAIN_FIRST, AGAIN_LONGEST);
        loop {
            let Reply { answer, info, .. } = self.read_once(shutdown).await?;
            let says = match answer.verdict() {
                Verdict::Renew if self.signer.renew(self.clock.wall_ms()) => ReadSays::Nothing,
                _ => ReadSays::of(answer),
            };
            match says {
                ReadSays::Nothing if self.clock.now().since(began) > self.settings.outage_max => {
                    self.last_word = Some((answer, info));
                    return Err(RunEnding::Outage);
                }
                ReadSays::Nothing => {
                    let until = self.clock.now() + waits.next_wait(&mut self.random);
                    self.sleep_until(until, shutdown).await?;
                }
                ReadSays::Dead => {
                    self.last_word = Some((answer, info));
                    return Ok(says);
                }
                ReadSays::Alive | ReadSays::Unavailable => return Ok(says),
            }
        }
    }

    async fn read_once(&mut self, shutdown: &mut Shutdown) -> Result<Reply, RunEnding> {
        if let Some(last) = self.sight.last_read {
            self.sleep_until(last + READ_SPACING, shutdown).await?;
        }
        self.sight.last_read = Some(self.clock.now());
        self.sight.reads += 1;
        let usersig = self.signer.current(self.clock.wall_ms());
        let call = ReadCall { app: self.settings.app, usersig };
        let transport = std::sync::Arc::clone(&self.transport);
        let reply = tokio::select! {
            biased;
            () = shutdown.asked(Urgency::Finish) => return Err(shutdown.ending()),
            reply = transport.read(&call) => reply,
        };
        tracing::info!(answer = %reply.answer, "read from the app");
        Ok(reply)
    }

    async fn sleep_until(&self, until: Moment, shutdown: &mut Shutdown) -> Result<(), RunEnding> {
        tokio::select! {
            biased;
            () = shutdown.asked(Urgency::Finish) => Err(shutdown.ending()),
            () = self.clock.sleep_until(until) => Ok(()),
        }
    }

    /// The app was alive in this run and is refused now: it may come back.
    async fn wait_for_app(
        &mut self,
        run: RunId,
        wait: Duration,
        shutdown: &mut Shutdown,
    ) -> Result<Option<RunEnding>, StoreError> {
        let until = self.clock.now() + wait;
        self.tell_of_gate(run, Change::Closed { why: ClosedFor::Outage, until }).await?;
        Ok(self.sleep_until(until, shutdown).await.err())
    }

    /// Records jobs whose rejection is about their question.
    async fn record_proven(&mut self, run: RunId, proven: &[Suspect]) -> Result<(), StoreError> {
        let conclusions = self.sight.conclusions(Findings::default(), proven);
        if conclusions.jobs.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.wall_ms();
        let concluded = self.turn.conclude(run, &conclusions, now_ms).await?;
        self.count_concluded(concluded);
        self.untold.push(Event::Concluded { totals: self.totals });
        self.commit().await
    }

    /// Whether a job that was rejected alone is done, if the code is about its question.
    pub(super) fn is_done_by_doubt(status: Status, in_doubt: bool, answer: Answer) -> bool {
        // Sent before with its response lost, and now there is no such question: the first one
        // was applied, or it never was there. Either way it is as was asked.
        in_doubt && status == Status::Delete && answer.about() == About::QuestionOrApp
    }
}

/// What the rejections so far ask for.
pub(super) enum Heeded {
    /// Nothing: send as usual.
    Send,
    /// One question from elsewhere in the queue.
    Sample,
    /// A response comes first.
    AfterAnswer,
    /// Something was found out: look at everything again.
    Again,
    /// The run has to end.
    End(RunEnding),
}
