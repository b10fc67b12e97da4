//! What a rejection proves: about a question, about a chunk, or about the app.
//!
//! Pure: responses with their moments in, the next step and what is proven out. The service has one
//! code (-50003) for a question that does not exist and for an app whose resource has lapsed, and gives
//! unlisted codes for anything. So such a code fails no question before the app was seen alive after the
//! rejection: by an applied request that was sent later, or by a read. Until then the job is pending, and
//! [`Evidence`] holds its rejection.
//!
//! The caller records every rejection and every applied request. A lapse that ends before the streak is
//! long enough to be checked cannot be told from bad questions.

mod decide;
mod rejected_chunks;

use std::time::Duration;

pub use decide::{Facts, LastRead, Step, Streak, decide, streak_max};
pub use rejected_chunks::RejectedChunks;

use crate::domain::clock::Moment;
use crate::domain::job::JobId;
pub use crate::domain::verdict::RejectionSubject;
use crate::domain::verdict::ResponseKind;

/// Where the app cannot be read, an applied request shows for this long that it is alive.
const APPLIED_RECENTLY: Duration = Duration::from_mins(1);

/// A job that was rejected alone, and its outcome if the code is about its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The job, pending and reserved by the run.
    pub job: JobId,
    /// The request that was rejected.
    pub request: i64,
    pub subject: RejectionSubject,
    /// Whether the job has succeeded then: a delete that was sent before with its response lost, and
    /// whose question does not exist any more.
    pub is_done: bool,
    /// When the rejection came.
    pub at: Moment,
}

/// What a read says about the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadResult {
    Alive,
    /// The service refuses the app.
    Dead,
    /// This account cannot read it.
    Unavailable,
    /// The read was too fast, or got no usable response.
    Inconclusive,
}

impl ReadResult {
    pub fn from_response(response: ResponseKind) -> Self {
        match response {
            // The response to a read is a list.
            ResponseKind::Code(0) | ResponseKind::NamesQuestions => Self::Alive,
            ResponseKind::Code(-50_003 | -50_040 | -50_059) => Self::Dead,
            // One question can be larger than the client reads.
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
    /// The rejections of these are about their questions.
    Proven(Vec<Suspect>),
    /// The service refused the app and does not any more: rejections in between prove nothing.
    Recovered,
}

/// See the head of this file.
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
    /// A request was rejected by a code that is about `subject`.
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

    /// Holds a job that was rejected alone until the app was seen alive.
    pub fn hold_suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// A request that was sent at `sent_at` was applied: the app is alive and the call is right.
    /// Returns the suspects whose rejections are about their questions.
    pub fn record_applied(&mut self, sent_at: Moment) -> Vec<Suspect> {
        self.applied_at = self.applied_at.max(Some(sent_at));
        (self.streak, self.samples) = (Streak::default(), 0);
        if self.read != LastRead::Unavailable {
            self.read = LastRead::None;
        }
        self.suspects.extract_if(.., |suspect| suspect.at <= sent_at).collect()
    }

    /// Records the result of a read that was sent after every rejection had come.
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
                // A code that is about a question shows that the call itself is right.
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

    /// Removes and returns all suspects, and ends the streak: they are proven, or sent again.
    pub fn take_suspects(&mut self) -> Vec<Suspect> {
        (self.streak, self.samples) = (Streak::default(), 0);
        std::mem::take(&mut self.suspects)
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
            applied_recently: self.applied_at.is_some_and(is_recent),
            suspects: !self.suspects.is_empty(),
            decide_now,
            samples: self.samples,
            has_other_jobs,
        }
    }

    /// How many requests may be in flight: few while a streak is nearly long enough to be checked,
    /// since each of them can add one more rejection.
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
