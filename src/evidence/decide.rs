//! The decision: what a streak of rejections proves, and what must be checked first.
//!
//! Pure: one function over a few facts; the test covers all of their combinations.

/// The rejections since the last proof that the app is alive, by codes that may concern the app or the call.
/// Rejections by a code that concerns only questions do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    /// By a code that concerns a question or the app.
    pub question_or_app: u32,
    /// By a code that concerns the questions or the call itself.
    pub call: u32,
}

impl Streak {
    pub fn total(self) -> u32 {
        self.question_or_app + self.call
    }
}

/// The result of the reads since the last rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastRead {
    /// No read was sent.
    #[default]
    None,
    /// The service responded for the app.
    Alive,
    /// The service rejected the app, this many times in a row.
    Dead(u32),
    /// This app or account cannot be read, so only an applied request proves that the app is alive.
    Unavailable,
}

/// The facts when the next request could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, in any combination")]
pub struct Facts {
    pub streak: Streak,
    /// The length of a streak that is checked; 0 disables the check.
    pub rejections_max: u32,
    pub read: LastRead,
    /// Whether a request of this run was applied.
    pub applied: bool,
    /// Whether the last applied request was sent a short time ago, and a suspect is no delete in doubt: for
    /// these the request may have been sent before the doubt arose.
    pub applied_recently: bool,
    /// Whether questions were rejected alone and are not recorded yet.
    pub suspects: bool,
    /// Whether the suspects must be decided now: no other job remains, or recording them reaches the failure
    /// limit.
    pub decide_now: bool,
    /// The number of samples rejected since the last proof that the app is alive.
    pub samples: u32,
    /// Whether the queue has another question to send as a sample.
    pub has_other_jobs: bool,
}

/// The next step of a run, as far as rejections decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send normally.
    Send,
    /// Read from the app, to check whether it is alive.
    CheckApp,
    /// Read again after a wait: the app was alive before and may recover. The number is how many reads the
    /// service has rejected.
    RecheckApp(u32),
    /// Send one question from the end of the queue, to see whether any request is applied.
    Sample,
    /// The rejections concern the questions: record the suspects.
    RecordSuspects,
    /// The service rejects the app: end the run and keep all jobs pending.
    StopRefused,
    /// Everything is rejected for an unknown reason: end the run and keep all jobs pending.
    StopSuspicious,
}

/// The shorter length of a streak that is checked before anything was applied.
const REJECTIONS_BEFORE_APPLIED: u32 = 4;
/// The number of reads of an app that was alive in this run before the run ends.
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
    // A read proves that the app is alive. Only an applied request proves that the call is correct.
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
