//! The state of the service: which questions exist and what was changed.
//!
//! Pure. One map holds the questions of every app and library, because an id begins with the number of its
//! app and so belongs to only one library. It receives only well-formed requests. A rejected request changes
//! no question unless the settings say so.

use std::collections::{BTreeMap, HashMap, HashSet};

use std::time::Duration;

use super::faults::Fault;
use super::rate::Frequency;
use super::settings::{KnownIds, SandboxSettings, UnknownIds};
use crate::domain::clock::Moment;

/// No question has the id, or it was deleted.
pub(super) const NO_SUCH_QUESTION: i64 = -50_003;
/// The question is a preset of the vendor and cannot be deleted.
pub(super) const PRESET: i64 = -50_011;

/// The status of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum QuestionStatus {
    /// Set by status 4.
    Enabled,
    /// Set by status 5.
    Disabled,
    /// Set by status 6.
    Deleted,
}

impl QuestionStatus {
    /// The status for the vendor's number.
    pub(super) fn asked_by(status: i64) -> Option<Self> {
        match status {
            4 => Some(Self::Enabled),
            5 => Some(Self::Disabled),
            6 => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// A question that was changed at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionState {
    /// The current status.
    pub status: QuestionStatus,
    /// The number of requests that have set it, even to the same status.
    pub changes: u64,
}

/// Everything that a response depends on besides the request and the time.
#[derive(Debug)]
pub(super) struct ServiceState {
    pub(super) settings: SandboxSettings,
    pub(super) frequency: Frequency,
    questions: HashMap<Box<str>, QuestionState>,
    /// The number of batch calls whose body was checked.
    pub(super) calls: u64,
    /// When the app's resource lapsed.
    lapsed_at: Option<Moment>,
}

/// One page of a library, as a read returns it: enabled and disabled questions in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The number of questions on all pages.
    pub(super) total: usize,
    pub(super) questions: Vec<(String, QuestionStatus)>,
}

/// The result of a change of several questions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// 0, or the code of the first invalid id.
    pub(super) code: i64,
    /// Whether any question was changed.
    pub(super) applied: bool,
}

impl ServiceState {
    pub(super) fn new(settings: SandboxSettings) -> Self {
        let frequency = Frequency::new(&settings);
        Self { settings, frequency, questions: HashMap::new(), calls: 0, lapsed_at: None }
    }

    /// Whether the app's resource has lapsed: after a number of batch calls, for a limited time.
    pub(super) fn is_lapsed(&mut self, now: Moment) -> bool {
        if self.settings.expired_after.is_none_or(|after| self.calls < after) {
            return false;
        }
        let since = *self.lapsed_at.get_or_insert(now);
        now.since(since) < self.settings.expired_for.unwrap_or(Duration::MAX)
    }

    /// The most ids in the last counted batch call; 0 means no limit.
    pub(super) fn max_ids(&self) -> usize {
        let falls = self.settings.max_ids_after.iter().rev();
        let mut begun = falls.filter(|fall| fall.after < self.calls);
        begun.next().map_or(self.settings.max_ids, |fall| fall.to)
    }

    /// The fault of a request that contains a question marked as poison.
    pub(super) fn fault_of(&self, ids: &[String]) -> Option<Fault> {
        let is_marked = |id: &String| last_part(id).starts_with("poison");
        let marks = self.settings.known_ids == KnownIds::Marked;
        (marks && ids.iter().any(is_marked)).then_some(self.settings.poison)
    }

    /// One page of the library, from 1. With [`KnownIds::Marked`] it has only the questions that some request
    /// has set.
    pub(super) fn page(&self, status: Option<QuestionStatus>, index: usize, size: usize) -> Page {
        let mut all: BTreeMap<&str, QuestionStatus> = BTreeMap::new();
        if let KnownIds::Listed(known) = &self.settings.known_ids {
            all.extend(known.iter().map(|id| (id.as_str(), QuestionStatus::Enabled)));
        }
        all.extend(self.questions.iter().map(|(id, question)| (&**id, question.status)));
        all.retain(|_, is| {
            *is != QuestionStatus::Deleted && status.is_none_or(|status| *is == status)
        });
        let from = (index - 1).saturating_mul(size);
        let shown = all.iter().skip(from).take(size);
        Page {
            total: all.len(),
            questions: shown.map(|(id, status)| ((*id).to_owned(), *status)).collect(),
        }
    }

    pub(super) fn question(&self, id: &str) -> Option<QuestionState> {
        self.questions.get(id).copied()
    }

    /// Sets the questions or rejects the request. A duplicate id is set once. All ids are checked before the
    /// first is set, so that the second of two equal ids does not find its question deleted.
    pub(super) fn change(&mut self, ids: &[String], target: QuestionStatus) -> Changed {
        let refusals: Vec<Option<i64>> = ids.iter().map(|id| self.refusal(id, target)).collect();
        let overlooked =
            |code: i64| self.settings.unknown_ids == UnknownIds::Ok && code == NO_SUCH_QUESTION;
        let code = refusals.iter().flatten().copied().find(|code| !overlooked(*code));
        if code.is_some() && self.settings.unknown_ids != UnknownIds::Partial {
            return Changed { code: code.unwrap_or_default(), applied: false };
        }
        let good: HashSet<&str> = ids
            .iter()
            .zip(&refusals)
            .filter_map(|(id, refusal)| refusal.is_none().then_some(id.as_str()))
            .collect();
        for id in &good {
            self.set(id, target);
        }
        Changed { code: code.unwrap_or_default(), applied: !good.is_empty() }
    }

    /// The code if this question cannot get this status.
    fn refusal(&self, id: &str, target: QuestionStatus) -> Option<i64> {
        let is_delete = target == QuestionStatus::Deleted;
        let was_deleted =
            self.question(id).is_some_and(|question| question.status == QuestionStatus::Deleted);
        if was_deleted {
            let is_fine = is_delete && self.settings.repeated_delete_ok;
            return (!is_fine).then_some(NO_SUCH_QUESTION);
        }
        let last_part = last_part(id);
        let exists = match &self.settings.known_ids {
            KnownIds::Marked => !last_part.starts_with("missing"),
            KnownIds::Listed(known) => known.contains(id),
        };
        if !exists {
            return Some(NO_SUCH_QUESTION);
        }
        let stays = is_delete && self.settings.presets_protected && last_part.starts_with("preset");
        stays.then_some(PRESET)
    }

    fn set(&mut self, id: &str, status: QuestionStatus) {
        // Looked up before the insertion: most requests use an id for the first time, but a known id must not
        // cost a copy.
        if let Some(question) = self.questions.get_mut(id) {
            *question = QuestionState { status, changes: question.changes + 1 };
        } else {
            self.questions.insert(id.into(), QuestionState { status, changes: 1 });
        }
    }
}

/// The part of an id that can contain a mark such as `missing`.
fn last_part(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::QuestionStatus::{Deleted, Disabled, Enabled};
    use super::*;

    fn state_with(unknown_ids: UnknownIds) -> ServiceState {
        ServiceState::new(SandboxSettings { unknown_ids, ..SandboxSettings::default() })
    }

    /// The code, and whether any question was changed.
    fn change(service: &mut ServiceState, ids: &[&str], target: QuestionStatus) -> (i64, bool) {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let changed = service.change(&ids, target);
        (changed.code, changed.applied)
    }

    fn question_of(service: &ServiceState, id: &str) -> Option<(QuestionStatus, u64)> {
        service.question(id).map(|question| (question.status, question.changes))
    }

    #[test]
    fn change_is_counted_only_on_requested_questions() {
        let mut service = state_with(UnknownIds::Reject);
        assert_eq!(change(&mut service, &["1-a", "1-b"], Enabled), (0, true));
        assert_eq!(change(&mut service, &["1-a", "1-a"], Disabled), (0, true));
        assert_eq!(question_of(&service, "1-a"), Some((Disabled, 2)));
        assert_eq!(question_of(&service, "1-b"), Some((Enabled, 1)));
        assert_eq!(question_of(&service, "1-c"), None);
    }

    #[test]
    fn unknown_ids_setting_decides_the_request_result() {
        let rows = [
            (UnknownIds::Reject, (NO_SUCH_QUESTION, false)),
            (UnknownIds::Partial, (NO_SUCH_QUESTION, true)),
            (UnknownIds::Ok, (0, true)),
        ];
        for (unknown_ids, response) in rows {
            let mut service = state_with(unknown_ids);
            assert_eq!(change(&mut service, &["a", "1-missing2", "b"], Enabled), response);
            assert_eq!(question_of(&service, "b").is_some(), response.1, "{unknown_ids}");
            assert_eq!(question_of(&service, "1-missing2"), None, "{unknown_ids}");
            let none_good = change(&mut service, &["missing"], Enabled);
            assert_eq!(none_good, (response.0, false), "{unknown_ids}");
        }
    }

    #[test]
    fn only_the_last_id_part_has_special_meaning() {
        let mut service = state_with(UnknownIds::Reject);
        assert_eq!(change(&mut service, &["missing-1", "preset-x", "a-unmissing"], Deleted).0, 0);
    }

    #[test]
    fn preset_questions_can_be_disabled_and_not_deleted() {
        for unknown_ids in [UnknownIds::Reject, UnknownIds::Ok] {
            let mut service = state_with(unknown_ids);
            assert_eq!(change(&mut service, &["a", "1-preset7"], Deleted), (PRESET, false));
            assert_eq!(change(&mut service, &["a", "1-preset7"], Disabled), (0, true));
        }
        let settings = SandboxSettings { presets_protected: false, ..SandboxSettings::default() };
        assert_eq!(change(&mut ServiceState::new(settings), &["1-preset7"], Deleted), (0, true));
    }

    #[test]
    fn first_bad_id_determines_the_code() {
        let mut service = state_with(UnknownIds::Reject);
        assert_eq!(change(&mut service, &["a", "1-preset", "1-missing"], Deleted).0, PRESET);
        assert_eq!(change(&mut service, &["1-missing", "1-preset"], Deleted).0, NO_SUCH_QUESTION);
    }

    #[test]
    fn second_delete_is_rejected_unless_allowed() {
        let mut strict = state_with(UnknownIds::Reject);
        assert_eq!(change(&mut strict, &["a", "a"], Deleted), (0, true));
        for target in [Enabled, Disabled, Deleted] {
            assert_eq!(change(&mut strict, &["a"], target), (NO_SUCH_QUESTION, false));
        }
        assert_eq!(question_of(&strict, "a"), Some((Deleted, 1)));
        let settings = SandboxSettings { repeated_delete_ok: true, ..SandboxSettings::default() };
        let mut mild = ServiceState::new(settings);
        assert_eq!(change(&mut mild, &["a"], Deleted), (0, true));
        assert_eq!(change(&mut mild, &["a"], Deleted), (0, true));
        assert_eq!(change(&mut mild, &["a"], Enabled), (NO_SUCH_QUESTION, false));
    }

    #[test]
    fn known_ids_list_excludes_all_other_ids() {
        let known_ids = KnownIds::Listed(HashSet::from(["1-missing".to_owned()]));
        let mut service =
            ServiceState::new(SandboxSettings { known_ids, ..SandboxSettings::default() });
        assert_eq!(change(&mut service, &["1-missing"], Enabled), (0, true));
        assert_eq!(change(&mut service, &["1-other"], Enabled), (NO_SUCH_QUESTION, false));
    }
}
