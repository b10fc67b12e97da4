//! A request is back: what its answer means, and what becomes of its jobs.
//!
//! Every way through here records the answer and settles the jobs in one turn to write; that
//! is made durable before anybody is told.

use std::time::Duration;

use super::chunk_queue::{Chunk, Trouble};
use super::{
    Answer, Clock, Event, Flight, Landed, Return, RunEnding, RunId, Runner, Settlement, StoreError,
    Transport, Verdict,
};
use crate::domain::clock::Moment;
use crate::domain::job::Status;
use crate::evidence::{About, Suspect};
use crate::isolate::{Blame, Findings, Group, Outcome};
use crate::limiter::{Change, Signal};
use crate::store::{Concluded, Conclusions};

/// A chunk that gets no usable response while others get through is cut after so many requests.
const STRIKES_WHOLE: u32 = 2;
/// A request that takes so long to fail is sent as it is no second time: each costs a timeout.
const SLOW_MS: u64 = 4_000;
/// So often a question alone gets no usable response before it fails.
const ALONE_MIN: u32 = 2;
/// So soon after its renewal a UserSig that is refused means that no renewal will do. Later
/// it may have run out while nothing got through for other reasons.
const RENEWAL_TRIAL: Duration = Duration::from_mins(1);

impl<C: Clock, T: Transport> Runner<C, T> {
    /// Settles one request, which is not durable yet. Says how the run has to end, if it has to.
    pub(super) async fn land(
        &mut self,
        run: RunId,
        landed: Landed,
    ) -> Result<Option<RunEnding>, StoreError> {
        let Landed { flight, reply, at } = landed;
        let verdict = reply.answer.verdict();
        let request = flight.carried.request();
        let settled = Settlement {
            carried: flight.carried.clone(),
            run,
            verdict,
            answered_ms: self.clock.wall_ms(),
            latency_ms: u64::try_from(at.since(flight.left).as_millis()).unwrap_or(u64::MAX),
            http_status: reply.http_status,
            code: match reply.answer {
                Answer::Code(code) => Some(code),
                _ => None,
            },
            info: reply.info,
        };
        tracing::debug!(
            request,
            verdict = verdict.name(),
            code = settled.code,
            http_status = settled.http_status,
            latency_ms = settled.latency_ms,
            "answer"
        );
        self.sight.asked_to_wait = reply.retry_after.is_some();
        let latency = at.since(flight.left);
        let change = self.tell_gate(&flight, verdict, reply.retry_after, at);
        let ending = match verdict {
            Verdict::Applied => self.applied(flight, &settled).await?,
            Verdict::Throttled => self.throttled(flight, &settled).await?,
            Verdict::Transient => self.transient(run, flight, settled, reply.answer).await?,
            Verdict::Renew => self.renew(flight, &settled, reply.answer).await?,
            Verdict::Rejected => {
                self.rejected(flight, &settled, reply.answer, at).await?;
                None
            }
            Verdict::Stop => self.refused(&settled, reply.answer).await?,
        };
        self.untold.push(Event::Settled { request, verdict, latency, totals: self.totals });
        self.tell_of_gate(run, change).await?;
        self.keep_now_and_then().await?;
        Ok(ending)
    }

    fn tell_gate(
        &mut self,
        flight: &Flight,
        verdict: Verdict,
        retry_after: Option<Duration>,
        at: Moment,
    ) -> Change {
        let signal = match verdict {
            Verdict::Applied | Verdict::Rejected => Signal::Through,
            Verdict::Throttled => Signal::Throttled,
            Verdict::Transient => Signal::Failed,
            Verdict::Renew | Verdict::Stop => Signal::Neither,
        };
        if signal == Signal::Through {
            self.through += 1;
            if flight.renewals == self.renewals {
                self.renewal_unproven = None;
            }
        }
        self.gate.answered(flight.ticket, signal, retry_after, at)
    }

    async fn applied(
        &mut self,
        flight: Flight,
        settled: &Settlement,
    ) -> Result<Option<RunEnding>, StoreError> {
        let proven = self.sight.evidence.applied(flight.left);
        let group = flight.chunk.group;
        if group.status == Status::Delete {
            self.sight.refused_chunks.applied(&group.ids);
        }
        let findings = self.work.record(group, Outcome::Applied);
        let conclusions = self.sight.conclusions(findings, &proven);
        let done = self.turn.settle_succeeded(settled, &conclusions).await?;
        self.totals.succeeded += done.jobs;
        self.count_concluded(done.concluded);
        Ok(None)
    }

    /// Counts jobs that got their outcome after their own response.
    pub(super) fn count_concluded(&mut self, concluded: Concluded) {
        self.totals.succeeded += concluded.succeeded;
        self.totals.succeeded_in_doubt += concluded.succeeded;
        self.totals.failed += concluded.failed;
    }

    async fn throttled(
        &mut self,
        flight: Flight,
        settled: &Settlement,
    ) -> Result<Option<RunEnding>, StoreError> {
        self.totals.throttled += 1;
        self.again_at_once(flight, settled).await
    }

    /// The same chunk once more, as if this request had not been.
    async fn again_at_once(
        &mut self,
        flight: Flight,
        settled: &Settlement,
    ) -> Result<Option<RunEnding>, StoreError> {
        let how = Return { held_by: Some(settled.run), due_ms: 0, counts: false, in_doubt: false };
        self.totals.overtaken += self.turn.settle_returned(settled, how).await?;
        self.work.again(self.clock.now(), flight.chunk);
        Ok(None)
    }

    /// No usable response: the same chunk again after a wait. It counts against the chunk only
    /// if other requests got through since it failed last; otherwise the trouble is not its
    /// own. A chunk that it counts against is cut into parts, and so is one that is all that is
    /// left: a part that gets through proves that there is no outage.
    async fn transient(
        &mut self,
        run: RunId,
        flight: Flight,
        mut settled: Settlement,
        answer: Answer,
    ) -> Result<Option<RunEnding>, StoreError> {
        self.totals.transient += 1;
        self.last_word = Some((answer, settled.info.clone()));
        let Chunk { group, trouble, .. } = flight.chunk;
        let mut trouble = trouble.unwrap_or_else(Trouble::new);
        let in_doubt = answer.may_have_been_applied();
        // What never left says nothing of its questions.
        let is_struck = in_doubt && trouble.note(self.through);
        let is_last = in_doubt && self.is_all_that_is_left(run).await?;
        let strikes = trouble.strikes.count;
        if let [_] = group.ids.as_slice() {
            if strikes >= self.settings.attempts_max
                && trouble.failures >= ALONE_MIN.min(self.settings.attempts_max)
            {
                settled.info = format!(
                    "given up after {strikes} tries while other requests got through: {}",
                    settled.info
                );
                return self.failed_alone(group, &settled, in_doubt).await;
            }
        } else {
            let whole = if settled.latency_ms >= SLOW_MS { 1 } else { STRIKES_WHOLE };
            let is_part = group.strikes().is_some();
            let is_struck_enough = is_struck && (is_part || strikes >= whole);
            if is_struck_enough || (is_last && !is_part && trouble.failures >= whole) {
                return self.split(group, &settled, trouble, in_doubt).await;
            }
        }
        self.sight.wants_sample = in_doubt && !is_struck;
        // One alone, or one part of a chunk, cannot show by itself that there is no outage.
        let is_small = group.ids.len() == 1 || group.strikes().is_some();
        self.sight.wants_proof_of_life |= is_last && is_small && !self.sight.asked_to_wait;
        let wait = trouble.backoff.next_wait(&mut self.random);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let due_ms = settled.answered_ms.saturating_add(wait_ms);
        let how = Return { held_by: Some(settled.run), due_ms, counts: true, in_doubt };
        self.totals.overtaken += self.turn.settle_returned(&settled, how).await?;
        let chunk = Chunk { group, trouble: Some(trouble), is_sample: false };
        self.work.again(self.clock.now() + wait, chunk);
        Ok(None)
    }

    /// Whether nothing is left to send but the jobs of the request that has just come back, and
    /// chunks that get no usable response either.
    async fn is_all_that_is_left(&self, run: RunId) -> Result<bool, StoreError> {
        Ok(self.flights.is_empty()
            && self.work.has_only_trouble()
            && self.store.next_due_ms(run).await?.is_none())
    }

    /// One of these may be what the service stumbles over.
    async fn split(
        &mut self,
        group: Group,
        settled: &Settlement,
        trouble: Trouble,
        in_doubt: bool,
    ) -> Result<Option<RunEnding>, StoreError> {
        let findings = self.work.split(group, settled.carried.request(), trouble.strikes);
        let conclusions = Conclusions { freed: findings.freed, ..Conclusions::default() };
        let how = Return { held_by: Some(settled.run), due_ms: 0, counts: true, in_doubt };
        self.totals.overtaken += self.turn.settle_refused(settled, how, &conclusions).await?;
        Ok(None)
    }

    /// A new UserSig; another refusal soon, before anything got through with it, ends the run.
    async fn renew(
        &mut self,
        flight: Flight,
        settled: &Settlement,
        answer: Answer,
    ) -> Result<Option<RunEnding>, StoreError> {
        let stale = flight.renewals < self.renewals;
        if !stale {
            let now = self.clock.now();
            let tried = self.renewal_unproven.is_some_and(|at| now.since(at) < RENEWAL_TRIAL);
            if tried || !self.signer.renew(self.clock.wall_ms()) {
                return self.refused(settled, answer).await;
            }
            tracing::info!("UserSig made anew");
            self.renewals += 1;
            self.renewal_unproven = Some(now);
        }
        self.again_at_once(flight, settled).await
    }

    /// A code that says no to the content. What it proves is decided by what the app shows
    /// afterwards, unless the code is about questions and nothing else.
    async fn rejected(
        &mut self,
        flight: Flight,
        settled: &Settlement,
        answer: Answer,
        at: Moment,
    ) -> Result<(), StoreError> {
        let (about, in_doubt) = (answer.about(), answer.may_have_been_applied());
        let Chunk { group, is_sample, .. } = flight.chunk;
        self.sight.evidence.rejected(about, is_sample);
        if about != About::Question {
            self.last_word = Some((answer, settled.info.clone()));
        }
        match *group.ids.as_slice() {
            [_] if about == About::Question => {
                self.failed_alone(group, settled, in_doubt).await?;
            }
            [job] => {
                let is_done = Self::is_done_by_doubt(group.status, flight.in_doubt, answer);
                let request = settled.carried.request();
                self.refused_together(group, settled, about, in_doubt).await?;
                self.sight.evidence.suspect(Suspect { job, request, about, is_done, at });
            }
            _ => {
                if group.status == Status::Delete {
                    let request = settled.carried.request();
                    self.sight.refused_chunks.rejected(&group.ids, request);
                }
                self.refused_together(group, settled, about, in_doubt).await?;
            }
        }
        Ok(())
    }

    async fn failed_alone(
        &mut self,
        group: Group,
        settled: &Settlement,
        in_doubt: bool,
    ) -> Result<Option<RunEnding>, StoreError> {
        let findings = self.record_refused(group, settled, About::Question);
        let conclusions = self.sight.conclusions(findings, &[]);
        let done = self.turn.settle_failed(settled, in_doubt, &conclusions).await?;
        self.totals.failed += done.jobs;
        self.count_concluded(done.concluded);
        Ok(None)
    }

    /// The jobs stay reserved: the bad ones among them are searched for, and one alone waits
    /// for what the app shows.
    async fn refused_together(
        &mut self,
        group: Group,
        settled: &Settlement,
        about: About,
        in_doubt: bool,
    ) -> Result<(), StoreError> {
        let findings = self.record_refused(group, settled, about);
        let conclusions = self.sight.conclusions(findings, &[]);
        let how = Return { held_by: Some(settled.run), due_ms: 0, counts: true, in_doubt };
        self.totals.overtaken += self.turn.settle_refused(settled, how, &conclusions).await?;
        Ok(())
    }

    fn record_refused(&mut self, group: Group, settled: &Settlement, about: About) -> Findings {
        let of = if about == About::Call { Blame::Request } else { Blame::Questions };
        self.work.record(group, Outcome::Refused { refusal: settled.carried.request(), of })
    }

    /// Nothing would be accepted: the jobs go back as they were, and the run ends.
    async fn refused(
        &mut self,
        settled: &Settlement,
        answer: Answer,
    ) -> Result<Option<RunEnding>, StoreError> {
        self.last_word = Some((answer, settled.info.clone()));
        self.hand_back(settled).await?;
        let is_blocked = answer.is_blocked_on_the_way();
        Ok(Some(if is_blocked { RunEnding::Outage } else { RunEnding::Refused }))
    }

    async fn hand_back(&mut self, settled: &Settlement) -> Result<(), StoreError> {
        let how = Return { held_by: None, due_ms: 0, counts: false, in_doubt: false };
        self.totals.overtaken += self.turn.settle_returned(settled, how).await?;
        Ok(())
    }
}
