//! The decision: what a streak of rejections proves, and what has to be checked first.
//!
//! Pure, one function over a few facts; the test goes through all of them.

/// Rejections since the app was last seen alive, by codes that may be about the app or about the call.
/// Rejections by a code that is about questions alone do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    /// By a code that is about a question or about the app.
    pub question_or_app: u32,
    /// By a code that is about the questions or about the call itself.
    pub call: u32,
}

impl Streak {
    pub fn total(self) -> u32 {
        self.question_or_app + self.call
    }
}

/// What reads of the app have shown since the last rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastRead {
    /// There was none.
    #[default]
    None,
    /// The service answered for the app.
    Alive,
    /// The service refused the app, this many times in a row.
    Dead(u32),
    /// This app or account cannot be read, so only applied requests show that the app is alive.
    Unavailable,
}

/// What is known when the next request could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub struct Facts {
    pub streak: Streak,
    /// A streak of this many rejections is checked; 0: never.
    pub rejections_max: u32,
    pub read: LastRead,
    /// Whether a request of this run was applied.
    pub applied: bool,
    /// Whether the last of them was sent a short time ago.
    pub applied_recently: bool,
    /// Whether there are questions that were rejected alone and are not recorded yet.
    pub suspects: bool,
    /// Whether these have to be decided now: nothing else is left to send, or with them as many
    /// have failed as end the run.
    pub decide_now: bool,
    /// How many samples were rejected since the app was last seen alive.
    pub samples: u32,
    /// Whether there is another question in the queue to send as a sample.
    pub has_other_jobs: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send as usual.
    Send,
    /// Read from the app, to see whether it is alive.
    CheckApp,
    /// Read again after a wait: the app was alive before and may recover. This many reads have shown
    /// that the service refuses it.
    RecheckApp(u32),
    /// Send one question from the end of the queue, to see whether any is applied.
    Sample,
    /// The rejections are about the questions: record the suspects.
    RecordSuspects,
    /// The service refuses the app: end the run with everything pending.
    StopRefused,
    /// Everything is rejected, and the reason is unknown: end the run with everything pending.
    StopSuspicious,
}

/// Before anything was applied a shorter streak is checked.
const REJECTIONS_BEFORE_APPLIED: u32 = 4;
/// An app that was alive in this run is read this often before the run ends.
const CHECKS_MAX: u32 = 3;
const SAMPLES_MAX: u32 = 2;

/// The length of a streak that is checked.
pub fn streak_max(rejections_max: u32, applied: bool) -> u32 {
    if applied { rejections_max } else { rejections_max.min(REJECTIONS_BEFORE_APPLIED) }
}

/// Decides what a streak of rejections requires before the next request.
pub fn decide(facts: &Facts) -> Step {
    if facts.rejections_max == 0 {
        return if facts.suspects { Step::RecordSuspects } else { Step::Send };
    }
    if let LastRead::Dead(times) = facts.read {
        let may_recover = facts.applied && times < CHECKS_MAX;
        return if may_recover { Step::RecheckApp(times) } else { Step::StopRefused };
    }
    let suspicious = facts.streak.total() >= streak_max(facts.rejections_max, facts.applied);
    let must_decide = suspicious || (facts.decide_now && facts.suspects);
    if !must_decide {
        return Step::Send;
    }
    // A read shows that the app is alive. Only an applied request shows that the call is right.
    let call = facts.streak.call > 0 && suspicious;
    match facts.read {
        LastRead::None if facts.streak.question_or_app > 0 || facts.decide_now => Step::CheckApp,
        LastRead::Alive if !call || (facts.decide_now && facts.applied) => Step::RecordSuspects,
        LastRead::Unavailable if facts.decide_now && facts.applied_recently && !suspicious => {
            Step::RecordSuspects
        }
        _ if facts.has_other_jobs && facts.samples < SAMPLES_MAX => Step::Sample,
        LastRead::None => Step::CheckApp,
        _ => Step::StopSuspicious,
    }
}
