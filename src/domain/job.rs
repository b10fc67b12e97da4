//! Jobs: a question, its target status, and the states until its outcome.
//!
//! Pure. SQL, help and reports use the same names. This file defines the legal transitions once. Each
//! statement of the queue checks the state that it leaves, and a test compares the two.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::util::escape::{code_point, is_unsafe};
use crate::util::suggest::did_you_mean;

/// The longest accepted question id, in bytes. The limit is the client's own: the vendor documents none.
pub const QUESTION_ID_BYTES_MAX: usize = 256;

/// The target status of a question; the numbers are the vendor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(ascii_case_insensitive, parse_err_ty = String, parse_err_fn = not_a_status)]
pub enum TargetStatus {
    /// 4: active in production.
    #[strum(to_string = "enable", serialize = "4")]
    Enable,
    /// 5: kept, but not active in production.
    #[strum(to_string = "disable", serialize = "5")]
    Disable,
    /// 6: deleted from production, which cannot be undone.
    #[strum(to_string = "delete", serialize = "6")]
    Delete,
}

impl TargetStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; Self::VARIANTS.len()] = all(Self::VARIANTS);

    pub fn code(self) -> i64 {
        match self {
            Self::Enable => 4,
            Self::Disable => 5,
            Self::Delete => 6,
        }
    }

    /// The status with the vendor's number `code`.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn not_a_status(text: &str) -> String {
    let meant = did_you_mean(text, TargetStatus::VARIANTS.iter().map(Into::into));
    format!("not a status{meant}: use enable, disable or delete, or 4, 5 or 6")
}

/// Which library of questions a job belongs to; each has its own remote command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
#[strum(parse_err_ty = String, parse_err_fn = not_a_library)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Library {
    /// Small talk, by `batch_set_chitchat`.
    #[default]
    Chitchat,
    /// Questions and answers, by `batch_set_faq`, which has the same parameters.
    Faq,
}

impl Library {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn not_a_library(text: &str) -> String {
    let meant = did_you_mean(text, Library::VARIANTS.iter().map(Into::into));
    format!("not a library{meant}: use chitchat or faq")
}

/// One SDKAppID and one library, which has its own command. The service counts requests for each app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct App {
    /// The vendor's number of the app.
    pub sdkappid: u64,
    pub library: Library,
}

/// The state of a job. Drawn in ARCHITECTURE.md, checked again by the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[derive(Display, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = not_a_state)]
pub enum JobState {
    /// Waits to be sent, until its due time if it has one.
    Pending,
    /// In a request without a recorded response.
    InFlight,
    /// Final: the service applied it.
    Succeeded,
    /// Final unless `retry` makes it pending again: the service rejected it.
    Failed,
    /// Final: cancelled before it was sent.
    Cancelled,
    /// Final: a later import of the same question has replaced it.
    Superseded,
}

impl JobState {
    /// Every state, in the order reports list them.
    pub const ALL: [Self; Self::VARIANTS.len()] = all(Self::VARIANTS);

    /// The name in the queue, in JSON and in CSV.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a job may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{Cancelled, Failed, InFlight, Pending, Succeeded, Superseded};
        matches!(
            (self, next),
            // A job that was rejected alone stays pending until `evidence` knows what the rejection concerns.
            (Pending, InFlight | Succeeded | Failed | Cancelled | Superseded)
                | (InFlight, Pending | Succeeded | Failed)
                | (Failed, Pending)
        )
    }
}

fn not_a_state(text: &str) -> String {
    format!("not a job state: {text}")
}

/// `variants` as an array, which has its length in its type.
const fn all<T: Copy, const N: usize>(variants: &[T]) -> [T; N] {
    *variants.first_chunk().expect("N is the number of variants")
}

/// The number of a job in its queue file.
pub type JobId = i64;

/// A question id: opaque, 1 to 256 bytes, printable, no blanks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct QuestionId(Box<str>);

impl QuestionId {
    /// Trims and checks one field of a manifest.
    ///
    /// # Errors
    /// The reason, in words, when the field is empty, too long, not UTF-8, or contains a blank or an
    /// unprintable character.
    pub fn parse(field: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(field).map_err(|_| "is not UTF-8 text".to_owned())?.trim();
        check_id(text)?;
        Ok(Self(text.into()))
    }

    /// The id as sent to the service.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as sent to the service, without a copy.
    pub fn into_text(self) -> String {
        self.0.into()
    }

    /// The number before the first dash, which looks like the SDKAppID of the owner. The vendor's samples
    /// suggest it, so it is good only for a warning.
    pub fn owner(&self) -> Option<u64> {
        self.0.split_once('-')?.0.parse().ok()
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for QuestionId {
    type Error = String;

    /// Checks a text as [`QuestionId::parse`] does, but does not trim it.
    fn try_from(text: String) -> Result<Self, String> {
        check_id(&text)?;
        Ok(Self(text.into()))
    }
}

fn check_id(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > QUESTION_ID_BYTES_MAX {
        return Err(format!(
            "has {} bytes; at most {QUESTION_ID_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    // Most ids contain only such characters.
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    // Text in another encoding becomes U+FFFD, which is visible but not the original character.
    match text.chars().find(|c| c.is_whitespace() || *c == '\u{fffd}' || is_unsafe(*c)) {
        Some(c) if c.is_whitespace() => Err("contains a blank".to_owned()),
        Some(c) => Err(format!("contains the unprintable character {}", code_point(c))),
        None => Ok(()),
    }
}

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number in the queue file.
    pub id: JobId,
    /// The question.
    pub question_id: QuestionId,
    /// Whether an earlier request for its question and target status may have been applied: its response was
    /// lost, and no later response has settled that. Requests of earlier jobs count too.
    pub in_doubt: bool,
}

/// A valid row of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The question.
    pub question_id: QuestionId,
    /// Its target status.
    pub status: TargetStatus,
    /// The line of the manifest where its record starts, from 1.
    pub line: u64,
}

/// Job ids as text with ranges: `1-100,107`. A request row stores its jobs like this.
pub fn fold_ids(ids: impl IntoIterator<Item = JobId>) -> String {
    let mut ids: Vec<JobId> = ids.into_iter().collect();
    ids.sort_unstable();
    let runs = ids.chunk_by(|a, b| *b == *a + 1);
    let texts: Vec<String> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_status_parses_number_or_name_in_any_case() {
        for (text, status) in [
            ("4", TargetStatus::Enable),
            ("DISABLE", TargetStatus::Disable),
            ("Delete", TargetStatus::Delete),
        ] {
            assert_eq!(text.parse(), Ok(status));
        }
        for bad in ["", "7", "04", "enabled", "-4", "4.0"] {
            assert!(bad.parse::<TargetStatus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn question_ids_are_trimmed_outside_and_strict_inside() {
        let parse = |text: &str| QuestionId::parse(text.as_bytes()).map(|id| id.to_string());
        assert_eq!(parse(" 1-@RBT#Desk-aB \t"), Ok("1-@RBT#Desk-aB".to_owned()));
        assert_eq!(parse("问题-1"), Ok("问题-1".to_owned()));
        assert_eq!(parse("  "), Err("is empty".to_owned()));
        assert_eq!(parse("a b"), Err("contains a blank".to_owned()));
        assert_eq!(parse("a\u{a0}b"), Err("contains a blank".to_owned()));
        assert_eq!(parse("a\0b"), Err("contains the unprintable character U+0000".to_owned()));
        for (c, name) in [
            ('\u{200b}', "U+200B"),
            ('\u{fe0f}', "U+FE0F"),
            ('\u{61c}', "U+061C"),
            ('\u{e0041}', "U+E0041"),
            ('\u{3164}', "U+3164"),
            ('\u{ad}', "U+00AD"),
            ('\u{fffd}', "U+FFFD"),
        ] {
            let refused = Err(format!("contains the unprintable character {name}"));
            assert_eq!(parse(&format!("a{c}b")), refused);
        }
        assert_eq!(parse(&"x".repeat(256)).map(|id| id.len()), Ok(256));
        assert_eq!(
            parse(&"x".repeat(257)),
            Err("has 257 bytes; at most 256 are allowed".to_owned())
        );
        assert_eq!(QuestionId::parse(b"\xc4\xe3"), Err("is not UTF-8 text".to_owned()));
    }

    #[test]
    fn question_id_prefix_is_the_owner_app() {
        let owner = |text: &str| QuestionId::parse(text.as_bytes()).ok().and_then(|id| id.owner());
        assert_eq!(owner("1500086040-@RBT#DeskDefaultRobot-qJLb9mKIA4bmdv9j"), Some(1_500_086_040));
        assert_eq!(owner("faq-7"), None);
    }

    #[test]
    fn failed_is_the_only_final_state_that_can_be_retried() {
        let ways_out =
            |from: JobState| JobState::ALL.iter().filter(|to| from.may_become(**to)).count();
        assert_eq!(ways_out(JobState::Succeeded), 0);
        assert_eq!(ways_out(JobState::Cancelled), 0);
        assert_eq!(ways_out(JobState::Superseded), 0);
        assert!(JobState::Failed.may_become(JobState::Pending));
        assert!(!JobState::InFlight.may_become(JobState::Cancelled));
    }

    #[test]
    fn job_ids_fold_into_ranges() {
        assert_eq!(fold_ids([3, 1, 2, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(fold_ids([]), "");
    }
}
