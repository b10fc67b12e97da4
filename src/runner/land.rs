//! A request is back: what its answer means, and what becomes of its jobs.
//!
//! Every way through here records the answer and settles the jobs in one turn to write; that
//! is made durable before anybody is told.

use std::time::Duration;

use super::work::{Chunk, Trouble};
use super::{
    Answer, Clock, Event, Flight, Landed, Return, RunEnding, RunId, Runner, Settlement, StoreError,
    Transport, Verdict,
};
use crate::clock::Moment;
use crate::gate::{Change, Signal};
use crate::isolate::{Blame, Findings, Group, Outcome};
use crate::job::Status;
use crate::retry::Backoff;
use crate::verdict::{Class, explain};

/// The first wait of a chunk that met passing trouble.
const TROUBLE_FIRST: Duration = Duration::from_secs(1);
/// The longest such wait.
const TROUBLE_LONGEST: Duration = Duration::from_secs(30);
/// So soon after its renewal a UserSig that is refused means that no renewal will do. Later
/// it may have run out while nothing got through for other reasons.
const RENEWAL_TRIAL: Duration = Duration::from_mins(1);
/// What the service says of a question that is not there.
const NO_SUCH_QUESTION: Answer = Answer::Code(-50_003);

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
        let latency = at.since(flight.left);
        let change = self.tell_gate(&flight, verdict, reply.retry_after, at);
        let ending = match verdict {
            Verdict::Applied => self.applied(flight, &settled).await?,
            Verdict::Throttled => self.throttled(flight, &settled).await?,
            Verdict::Transient => self.transient(flight, settled, reply.answer).await?,
            Verdict::Renew => self.renew(flight, &settled, reply.answer).await?,
            Verdict::Rejected => self.rejected(flight, &settled, reply.answer).await?,
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
        let findings = self.work.record(flight.chunk.group, Outcome::Applied);
        let done = self.turn.settle_succeeded(settled, &findings).await?;
        self.totals.succeeded += done.jobs;
        self.totals.failed += done.concluded;
        self.unknown = None;
        Ok(None)
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

    /// Passing trouble: the same chunk again after a wait. It counts against the chunk only
    /// if other requests got through since it failed last; otherwise the trouble is not its
    /// own.
    async fn transient(
        &mut self,
        flight: Flight,
        mut settled: Settlement,
        answer: Answer,
    ) -> Result<Option<RunEnding>, StoreError> {
        self.totals.transient += 1;
        self.last_word = Some((answer, settled.info.clone()));
        let Chunk { group, trouble } = flight.chunk;
        let mut trouble = trouble.unwrap_or_else(|| Trouble {
            strikes: 0,
            through_seen: 0,
            backoff: Backoff::new(TROUBLE_FIRST, TROUBLE_LONGEST),
        });
        if self.through > trouble.through_seen {
            trouble.strikes += 1;
            trouble.through_seen = self.through;
        }
        let in_doubt = answer.may_have_been_applied();
        let given_up = trouble.strikes >= self.settings.attempts_max;
        if given_up && group.ids.len() == 1 {
            settled.info = format!(
                "given up after {} tries while other requests got through: {}",
                trouble.strikes, settled.info
            );
            return self.failed_alone(group, &settled, in_doubt).await;
        }
        if given_up {
            // One of them may be what the service stumbles over.
            return self.refused_together(group, &settled, in_doubt).await;
        }
        let wait = trouble.backoff.next_wait(&mut self.random);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let due_ms = settled.answered_ms.saturating_add(wait_ms);
        let how = Return { held_by: Some(settled.run), due_ms, counts: true, in_doubt };
        self.totals.overtaken += self.turn.settle_returned(&settled, how).await?;
        self.work.again(self.clock.now() + wait, Chunk { group, trouble: Some(trouble) });
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

    async fn rejected(
        &mut self,
        flight: Flight,
        settled: &Settlement,
        answer: Answer,
    ) -> Result<Option<RunEnding>, StoreError> {
        if self.is_suspicious(answer) {
            self.last_word = Some((answer, settled.info.clone()));
            self.hand_back(settled).await?;
            return Ok(Some(RunEnding::Suspicious));
        }
        let group = flight.chunk.group;
        match group.ids.as_slice() {
            // Sent before without a known answer, and now there is no such question: the
            // first one was applied, or it never was there. Either way it is as was asked.
            [_] if flight.in_doubt
                && group.status == Status::Delete
                && answer == NO_SUCH_QUESTION =>
            {
                let findings = self.record_refused(group, settled);
                let done = self.turn.settle_succeeded(settled, &findings).await?;
                self.totals.succeeded += done.jobs;
                self.totals.succeeded_in_doubt += done.jobs;
                Ok(None)
            }
            [_] => self.failed_alone(group, settled, answer.may_have_been_applied()).await,
            _ => self.refused_together(group, settled, answer.may_have_been_applied()).await,
        }
    }

    async fn failed_alone(
        &mut self,
        group: Group,
        settled: &Settlement,
        in_doubt: bool,
    ) -> Result<Option<RunEnding>, StoreError> {
        let findings = self.record_refused(group, settled);
        let done = self.turn.settle_failed(settled, in_doubt, &findings).await?;
        self.totals.failed += done.jobs;
        Ok(None)
    }

    /// More than one: the bad ones among them are searched for.
    async fn refused_together(
        &mut self,
        group: Group,
        settled: &Settlement,
        in_doubt: bool,
    ) -> Result<Option<RunEnding>, StoreError> {
        let findings = self.record_refused(group, settled);
        let how = Return { held_by: Some(settled.run), due_ms: 0, counts: true, in_doubt };
        self.totals.overtaken += self.turn.settle_refused(settled, how, &findings).await?;
        Ok(None)
    }

    fn record_refused(&mut self, group: Group, settled: &Settlement) -> Findings {
        let of = match (settled.verdict, settled.code.map(|code| explain(code).class)) {
            (Verdict::Transient, _) => Blame::Trouble,
            (_, Some(Class::Item)) => Blame::Questions,
            _ => Blame::Request,
        };
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

    /// Counts unknown codes in a row. A fault that no list knows and that every chunk meets
    /// is not the ids': going on would fail job after job.
    fn is_suspicious(&mut self, answer: Answer) -> bool {
        let code = match answer {
            Answer::Code(code) if explain(code).class == Class::Unknown => code,
            // A list that no page knows, beside the code of success.
            Answer::NamesQuestions => 0,
            _ => return false,
        };
        let times = match self.unknown {
            Some((last, times)) if last == code => times + 1,
            _ => 1,
        };
        self.unknown = Some((code, times));
        self.settings.unknown_max > 0 && times >= self.settings.unknown_max
    }
}
