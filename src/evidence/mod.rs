//! What a rejection proves: about a question, about a chunk, or about the app.
//!
//! Pure: takes responses with their moments, returns the next step and what is proven. The service has one
//! code (-50003) for a question that does not exist and for an app whose resource has lapsed, and returns
//! unlisted codes for anything. So such a code fails no question before the app is proven alive after the
//! rejection: by an applied request that was sent later, or by a read. Until then the job is pending, and
//! [`Evidence`] holds its rejection.
//!
//! The caller records every rejection and every applied request. A lapse that ends before the streak is long
//! enough to be checked cannot be distinguished from bad questions.

mod decide;
mod rejected_chunks;

use std::time::Duration;

pub use decide::{Facts, LastRead, Step, Streak, decide, streak_max};
pub use rejected_chunks::RejectedChunks;

use crate::domain::clock::Moment;
use crate::domain::job::JobId;
pub use crate::domain::verdict::RejectionSubject;
use crate::domain::verdict::ResponseKind;

/// If the app cannot be read, an applied request proves for this time that it is alive.
const APPLIED_RECENTLY: Duration = Duration::from_mins(1);

/// A job that was rejected alone, and its outcome if the code concerns its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The job, pending and reserved by the run.
    pub job: JobId,
    /// The rejected request.
    pub request: i64,
    pub subject: RejectionSubject,
    /// Whether the job then succeeds: a delete whose earlier response was lost and whose question no longer
    /// exists.
    pub is_done: bool,
    /// When the rejection arrived.
    pub at: Moment,
}

/// What a read shows about the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadResult {
    Alive,
    /// The service rejects the app.
    Dead,
    /// This account cannot read the app.
    Unavailable,
    /// The read was throttled, or got no usable response.
    Inconclusive,
}

impl ReadResult {
    pub fn from_response(response: ResponseKind) -> Self {
        match response {
            // The response to a read contains a list.
            ResponseKind::Code(0) | ResponseKind::NamesQuestions => Self::Alive,
            ResponseKind::Code(-50_003 | -50_040 | -50_059) => Self::Dead,
            // A single question can be larger than the size limit of a response.
            ResponseKind::Unreadable => Self::Unavailable,
            other if other.is_temporary() => Self::Inconclusive,
            _ => Self::Unavailable,
        }
    }
}

/// What a read proves.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadEffect {
    Nothing,
    /// The rejections of these suspects concern their questions.
    Proven(Vec<Suspect>),
    /// The service rejected the app before and accepts it now: rejections in between prove nothing.
    Recovered,
}

/// The streak of rejections, the suspects and the last read of one run.
#[derive(Debug, Default)]
pub struct Evidence {
    streak: Streak,
    read: LastRead,
    /// When the last applied request was sent.
    applied_at: Option<Moment>,
    samples: u32,
    suspects: Vec<Suspect>,
}

impl Evidence {
    /// Records a rejection by a code that concerns `subject`.
    pub fn record_rejection(&mut self, subject: RejectionSubject, is_sample: bool) {
        match subject {
            RejectionSubject::Question => return,
            RejectionSubject::QuestionOrApp => self.streak.question_or_app += 1,
            RejectionSubject::Call => self.streak.call += 1,
        }
        self.samples += u32::from(is_sample);
        if self.read == LastRead::Alive {
            self.read = LastRead::None;
        }
    }

    /// Holds a job that was rejected alone until the app is proven alive.
    pub fn hold_suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// Records that a request sent at `sent_at` was applied: the app is alive and the call is correct.
    /// Returns the suspects whose rejections concern their questions.
    pub fn record_applied(&mut self, sent_at: Moment) -> Vec<Suspect> {
        self.applied_at = self.applied_at.max(Some(sent_at));
        (self.streak, self.samples) = (Streak::default(), 0);
        if self.read != LastRead::Unavailable {
            self.read = LastRead::None;
        }
        self.suspects.extract_if(.., |suspect| suspect.at <= sent_at).collect()
    }

    /// Records the result of a read that was sent after every rejection had arrived.
    pub fn record_read(&mut self, result: ReadResult) -> ReadEffect {
        let before = self.read;
        self.read = match (result, before) {
            (ReadResult::Inconclusive, read) => read,
            (ReadResult::Unavailable, _) => LastRead::Unavailable,
            (ReadResult::Dead, LastRead::Dead(times)) => LastRead::Dead(times + 1),
            (ReadResult::Dead, _) => LastRead::Dead(1),
            (ReadResult::Alive, _) => LastRead::Alive,
        };
        match (result, before) {
            (ReadResult::Alive, LastRead::Dead(_)) => ReadEffect::Recovered,
            (ReadResult::Alive, _) => {
                // A code that concerns a question proves that the call itself is correct.
                if self.streak.question_or_app > 0 {
                    self.streak = Streak::default();
                }
                let is_proven =
                    |suspect: &mut Suspect| suspect.subject == RejectionSubject::QuestionOrApp;
                ReadEffect::Proven(self.suspects.extract_if(.., is_proven).collect())
            }
            _ => ReadEffect::Nothing,
        }
    }

    /// Removes and returns all suspects, and ends the streak: they are proven or sent again.
    pub fn take_suspects(&mut self) -> Vec<Suspect> {
        (self.streak, self.samples) = (Streak::default(), 0);
        std::mem::take(&mut self.suspects)
    }

    /// Removes and returns the suspects that can be recorded now. Where the app cannot be read, a delete in
    /// doubt stays: that it was applied is recorded only after a later sign of life.
    pub fn take_decided_suspects(&mut self) -> Vec<Suspect> {
        let needs_sign_of_life = |suspect: &Suspect| suspect.is_done;
        if self.read != LastRead::Unavailable || !self.suspects.iter().any(needs_sign_of_life) {
            return self.take_suspects();
        }
        let (kept, decided) = self.suspects.drain(..).partition(needs_sign_of_life);
        self.suspects = kept;
        decided
    }

    pub fn suspect_count(&self) -> usize {
        self.suspects.len()
    }

    /// The facts at `now`, for [`decide`].
    pub fn facts(
        &self,
        rejections_max: u32,
        now: Moment,
        decide_now: bool,
        has_other_jobs: bool,
    ) -> Facts {
        let is_recent = |at: Moment| now.since(at) < APPLIED_RECENTLY;
        Facts {
            streak: self.streak,
            rejections_max,
            read: self.read,
            applied: self.applied_at.is_some(),
            applied_recently: self.applied_at.is_some_and(is_recent)
                && self.suspects.iter().any(|suspect| !suspect.is_done),
            suspects: !self.suspects.is_empty(),
            decide_now,
            samples: self.samples,
            has_other_jobs,
        }
    }

    /// The most requests in flight. It is small while a streak is nearly long enough to be checked, because
    /// each request can add one more rejection.
    pub fn in_flight_max(&self, rejections_max: u32) -> usize {
        let most = streak_max(rejections_max, self.applied_at.is_some());
        let total = self.streak.total();
        if rejections_max == 0 || total == 0 || (self.applied_at.is_some() && total < most / 2) {
            return usize::MAX;
        }
        usize::try_from(most.saturating_sub(total)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests;
