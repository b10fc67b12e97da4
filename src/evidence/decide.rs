//! The decision: what a row of rejections proves, and what has to be looked at first.
//!
//! Pure, one function over a few facts; the test goes through all of them.

/// Rejections since the app was last seen alive, of codes that may be about the app or about the
/// call. Rejections by a code that is about questions alone are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    /// By a code that is about a question or about the app.
    pub question_or_app: u32,
    /// By a code that is about the questions or about the call itself.
    pub call: u32,
}

impl Streak {
    /// All of them.
    pub fn total(self) -> u32 {
        self.question_or_app + self.call
    }
}

/// What a read of the app has shown since the last rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Read {
    /// There was none.
    #[default]
    None,
    /// The app answers.
    Alive,
    /// The app is refused, seen so often in a row.
    Dead(u32),
    /// This app or account cannot be read, so that only applied requests show that it is alive.
    Unavailable,
}

/// What is known when the next request could leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts of their own, in any combination")]
pub struct Facts {
    /// See there.
    pub streak: Streak,
    /// So many rejections in a row are looked into; 0: never.
    pub rejections_max: u32,
    /// See there.
    pub read: Read,
    /// Whether a request of this run was applied.
    pub applied: bool,
    /// Whether the last one was not long ago.
    pub applied_near: bool,
    /// Whether there are questions that were rejected alone and are not recorded yet.
    pub suspects: bool,
    /// Whether they have to be decided now: nothing else is left to send, or so many have
    /// failed with them that the run has to end.
    pub now: bool,
    /// How many questions from elsewhere in the queue were rejected since the app was last seen
    /// alive.
    pub samples: u32,
    /// Whether there is a question elsewhere in the queue to ask.
    pub elsewhere: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send as usual.
    Send,
    /// Read from the app, to see whether it is alive.
    Look,
    /// Read again after a wait: the app was alive before and may come back. So many reads have
    /// shown that it is refused.
    LookAgain(u32),
    /// Send one question from elsewhere in the queue, to see whether any is applied.
    Sample,
    /// The rejections are about the questions: record them.
    Record,
    /// The app is refused: end the run with everything pending.
    StopRefused,
    /// Everything is rejected and nobody can say why: end the run with everything pending.
    StopSuspicious,
}

/// Before anything was applied the app is under suspicion sooner.
const REJECTIONS_BEFORE_APPLIED: u32 = 4;
/// An app that was alive in this run is looked at so often before the run gives up.
const LOOKS_MAX: u32 = 3;
/// So many questions from elsewhere are asked.
const SAMPLES_MAX: u32 = 2;

/// How many rejections in a row are looked into.
pub fn streak_max(rejections_max: u32, applied: bool) -> u32 {
    if applied { rejections_max } else { rejections_max.min(REJECTIONS_BEFORE_APPLIED) }
}

/// See [`Step`].
pub fn decide(facts: &Facts) -> Step {
    if facts.rejections_max == 0 {
        return if facts.suspects { Step::Record } else { Step::Send };
    }
    if let Read::Dead(times) = facts.read {
        let may_come_back = facts.applied && times < LOOKS_MAX;
        return if may_come_back { Step::LookAgain(times) } else { Step::StopRefused };
    }
    let suspicious = facts.streak.total() >= streak_max(facts.rejections_max, facts.applied);
    let must_decide = suspicious || (facts.now && facts.suspects);
    if !must_decide {
        return Step::Send;
    }
    // A read shows that the app is alive; that the call is right, only an applied request shows.
    let call = facts.streak.call > 0 && suspicious;
    match facts.read {
        Read::None if facts.streak.question_or_app > 0 || facts.now => Step::Look,
        Read::Alive if !call || (facts.now && facts.applied) => Step::Record,
        Read::Unavailable if facts.now && facts.applied_near && !suspicious => Step::Record,
        _ if facts.elsewhere && facts.samples < SAMPLES_MAX => Step::Sample,
        Read::None => Step::Look,
        _ => Step::StopSuspicious,
    }
}
