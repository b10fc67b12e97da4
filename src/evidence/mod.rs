//! What rejections prove: about a question, about a chunk, or about the app.
//!
//! Pure: responses with their moments in, the next step and what is proven out. The service
//! gives one code (-50003) for a question that does not exist and for an app whose resource has
//! lapsed, and codes of no list for anything; so no question is recorded as failed by such a code
//! before the app has been seen alive after the rejection: by an applied request that left later,
//! or by a read. Until then the job is pending, and [`Evidence`] holds what it was rejected with.
//!
//! It relies on being told of every rejection and of every applied request. A lapse that ends
//! before so many rejections in a row as it takes to look cannot be told from bad questions.

mod decide;
mod refused_chunks;

use std::time::Duration;

pub use decide::{Facts, Read, Step, Streak, decide, streak_max};
pub use refused_chunks::RefusedChunks;

use crate::domain::clock::Moment;
use crate::domain::job::JobId;
pub use crate::domain::verdict::About;
use crate::domain::verdict::Answer;

/// An applied request shows for so long that the app is alive, where it cannot be read.
const NEAR: Duration = Duration::from_mins(1);

/// A job that was rejected alone, and what becomes of it if the code is about its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// The job, pending and reserved by the run.
    pub job: JobId,
    /// The request that was rejected.
    pub request: i64,
    /// What its code is about.
    pub about: About,
    /// Whether the job has succeeded then: a delete that was sent before with its response lost,
    /// and whose question is gone.
    pub is_done: bool,
    /// When the rejection came.
    pub at: Moment,
}

/// What a response to a read of the app says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadSays {
    /// It is alive.
    Alive,
    /// It is refused.
    Dead,
    /// It cannot be read with this account.
    Unavailable,
    /// Nothing: too fast, or trouble on the way.
    Nothing,
}

impl ReadSays {
    /// What `answer` says.
    pub fn of(answer: Answer) -> Self {
        match answer {
            // A read is answered with a list.
            Answer::Code(0) | Answer::NamesQuestions => Self::Alive,
            Answer::Code(-50_003 | -50_040 | -50_059) => Self::Dead,
            // One question may be larger than a client reads.
            Answer::Garbled => Self::Unavailable,
            other if other.is_passing() => Self::Nothing,
            _ => Self::Unavailable,
        }
    }
}

/// What a read proves.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// These were rejected for their questions.
    Proven(Vec<Suspect>),
    /// The app was refused and is alive again: what was rejected meanwhile proves nothing.
    CameBack,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Evidence {
    streak: Streak,
    read: Read,
    /// When the last applied request left.
    applied: Option<Moment>,
    samples: u32,
    suspects: Vec<Suspect>,
}

impl Evidence {
    /// A request was rejected with a code that is about this.
    pub fn rejected(&mut self, about: About, is_sample: bool) {
        match about {
            About::Question => return,
            About::QuestionOrApp => self.streak.question_or_app += 1,
            About::Call => self.streak.call += 1,
        }
        self.samples += u32::from(is_sample);
        if self.read == Read::Alive {
            self.read = Read::None;
        }
    }

    /// Holds a job that was rejected alone until the app has been seen alive.
    pub fn suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// A request that left at `left` was applied: the app is alive, and the call is right.
    /// Returns whom that proves to be rejected for their questions.
    pub fn applied(&mut self, left: Moment) -> Vec<Suspect> {
        self.applied = self.applied.max(Some(left));
        (self.streak, self.samples) = (Streak::default(), 0);
        if self.read != Read::Unavailable {
            self.read = Read::None;
        }
        self.suspects.extract_if(.., |suspect| suspect.at <= left).collect()
    }

    /// What a read has shown. It left after every rejection had come.
    pub fn read(&mut self, says: ReadSays) -> Seen {
        let before = self.read;
        self.read = match (says, before) {
            (ReadSays::Nothing, read) => read,
            (ReadSays::Unavailable, _) => Read::Unavailable,
            (ReadSays::Dead, Read::Dead(times)) => Read::Dead(times + 1),
            (ReadSays::Dead, _) => Read::Dead(1),
            (ReadSays::Alive, _) => Read::Alive,
        };
        match (says, before) {
            (ReadSays::Alive, Read::Dead(_)) => Seen::CameBack,
            (ReadSays::Alive, _) => {
                // A code that is about a question shows that the call itself is right.
                if self.streak.question_or_app > 0 {
                    self.streak = Streak::default();
                }
                let is_proven = |suspect: &mut Suspect| suspect.about == About::QuestionOrApp;
                Seen::Proven(self.suspects.extract_if(.., is_proven).collect())
            }
            _ => Seen::Nothing,
        }
    }

    /// All that are held, and nothing of what led to it: they are proven, or to be asked again.
    pub fn take_suspects(&mut self) -> Vec<Suspect> {
        (self.streak, self.samples) = (Streak::default(), 0);
        std::mem::take(&mut self.suspects)
    }

    /// How many jobs are held.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// The facts at `now`; see there for the others.
    pub fn facts(
        &self,
        rejections_max: u32,
        now: Moment,
        decide_now: bool,
        elsewhere: bool,
    ) -> Facts {
        Facts {
            streak: self.streak,
            rejections_max,
            read: self.read,
            applied: self.applied.is_some(),
            applied_near: self.applied.is_some_and(|at| now.since(at) < NEAR),
            suspects: !self.suspects.is_empty(),
            now: decide_now,
            samples: self.samples,
            elsewhere,
        }
    }

    /// How many requests may be in flight: few where the app is nearly under suspicion, since
    /// each of them may be one more rejection.
    pub fn in_flight_max(&self, rejections_max: u32) -> usize {
        let most = streak_max(rejections_max, self.applied.is_some());
        let total = self.streak.total();
        if rejections_max == 0 || total == 0 || (self.applied.is_some() && total < most / 2) {
            return usize::MAX;
        }
        usize::try_from(most.saturating_sub(total)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests;
