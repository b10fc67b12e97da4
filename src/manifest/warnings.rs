//! Unusual properties of valid rows. They do not stop an import, but its author probably did not intend them.
//!
//! A spreadsheet rewrites ids when it opens a file, before anyone sees them: into numbers, formulas and
//! typographic dashes. Such an id is still valid, because the service documents no rule for ids. Uses no file
//! and no terminal.

use std::fmt;

use strum::VariantArray;

use super::row_error::shown;
use crate::domain::job::{NewJob, TargetStatus};
use crate::util::count::counted_as;

/// The kinds of unusual properties of a valid row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum WarningKind {
    /// An id that begins with the number of another app.
    Foreign,
    /// An id that is a number with an exponent, such as `1.4E+09`.
    Number,
    /// An id that is an error value, such as `#NAME?`.
    ErrorValue,
    /// An id that begins like a formula, such as `="x"`.
    Formula,
    /// An id that begins with the apostrophe that marks a cell as text.
    Apostrophe,
    /// An id with a typographic dash or hyphen.
    Dash,
    /// A row whose own status differs from the one that an option sets for all rows.
    Override,
}

/// One kind of unusual property, for all rows that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub kind: WarningKind,
    /// The number of rows that have it. Of duplicate rows only the first counts, except for
    /// [`WarningKind::Override`].
    pub rows: u64,
    /// The number of the first such record.
    pub record: u64,
    /// The line where that record starts.
    pub line: u64,
    /// Its id, or its own status, safe to show.
    pub example: String,
    /// The whole warning in one sentence, with the remedy.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// The counts of each kind while rows are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Warnings([Option<First>; WarningKind::VARIANTS.len()]);

#[derive(Debug, Clone)]
struct First {
    rows: u64,
    record: u64,
    line: u64,
    example: String,
}

impl Warnings {
    /// Checks the id of a job for the app `sdkappid`.
    pub(super) fn look_at(&mut self, job: &NewJob, record: u64, sdkappid: u64) {
        let id = job.question_id.as_str();
        if job.question_id.owner().is_some_and(|owner| owner != sdkappid) {
            self.count(WarningKind::Foreign, record, job.line, id.as_bytes());
        }
        if let Some(kind) = rewritten(id) {
            self.count(kind, record, job.line, id.as_bytes());
        }
    }

    /// Counts a row whose own status, `own`, is overridden.
    pub(super) fn overridden(&mut self, record: u64, line: u64, own: &[u8]) {
        self.count(WarningKind::Override, record, line, own.trim_ascii());
    }

    /// The number of rows that have it, and the first example.
    pub(super) fn of(&self, kind: WarningKind) -> Option<(u64, &str)> {
        self.0[kind as usize].as_ref().map(|first| (first.rows, first.example.as_str()))
    }

    /// The warnings for the app `sdkappid`. `status` is the status that an option sets for all rows.
    pub(super) fn finish(self, sdkappid: u64, status: Option<TargetStatus>) -> Vec<Warning> {
        let found = WarningKind::VARIANTS.iter().zip(self.0);
        let found = found.filter_map(|(kind, first)| Some((*kind, first?)));
        found.map(|(kind, first)| warning(kind, first, sdkappid, status)).collect()
    }

    fn count(&mut self, kind: WarningKind, record: u64, line: u64, example: &[u8]) {
        let first = || First { rows: 0, record, line, example: shown(example) };
        self.0[kind as usize].get_or_insert_with(first).rows += 1;
    }
}

fn warning(
    kind: WarningKind,
    first: First,
    sdkappid: u64,
    status: Option<TargetStatus>,
) -> Warning {
    let First { rows, record, line, example } = first;
    let status = status.map_or("", TargetStatus::name);
    let advice = match kind {
        WarningKind::Foreign => "check that this is the right app".to_owned(),
        WarningKind::Apostrophe => "remove it".to_owned(),
        WarningKind::Override => format!("--status {status} overrides it"),
        _ => RELOAD.to_owned(),
    };
    let mut what = counted_rows(kind, rows);
    if kind == WarningKind::Foreign {
        what = format!("{what} {sdkappid}");
    }
    let text = format!("{what}, for example {example} (record {record}, line {line}): {advice}");
    Warning { kind, rows, record, line, example, text }
}

/// The number of rows and what is unusual about them; of [`WarningKind::Foreign`] without the SDKAppID at its end.
fn counted_rows(kind: WarningKind, rows: u64) -> String {
    let (one, many) = match kind {
        WarningKind::Foreign => {
            ("id does not begin with the SDKAppID", "ids do not begin with the SDKAppID")
        }
        WarningKind::Number => (
            "id is a number with an exponent, which spreadsheets make of long numbers",
            "ids are numbers with an exponent, which spreadsheets make of long numbers",
        ),
        WarningKind::ErrorValue => {
            ("id is an error value of a spreadsheet", "ids are error values of a spreadsheet")
        }
        WarningKind::Formula => (
            "id begins with = like a formula of a spreadsheet",
            "ids begin with = like formulas of a spreadsheet",
        ),
        WarningKind::Apostrophe => (
            "id begins with the apostrophe with which spreadsheets mark text",
            "ids begin with the apostrophe with which spreadsheets mark text",
        ),
        WarningKind::Dash => (
            "id has a typographic dash or hyphen instead of -",
            "ids have a typographic dash or hyphen instead of -",
        ),
        WarningKind::Override => {
            ("row has another status of its own", "rows have another status of their own")
        }
    };
    counted_as(rows, one, many)
}

const RELOAD: &str = "export the ids again, and open them with their column as text";

/// The kind of change that a spreadsheet or a word processor has made to `id`.
fn rewritten(id: &str) -> Option<WarningKind> {
    match id.as_bytes() {
        [b'0'..=b'9', ..] if has_exponent(id) => return Some(WarningKind::Number),
        [b'#', ..] if is_error_value(id) => return Some(WarningKind::ErrorValue),
        [b'=', ..] => return Some(WarningKind::Formula),
        [b'\'', ..] => return Some(WarningKind::Apostrophe),
        _ => {}
    }
    (!id.is_ascii() && id.contains(is_typographic_dash)).then_some(WarningKind::Dash)
}

/// Whether the id consists of digits, an optional fraction, and an exponent.
fn has_exponent(id: &str) -> bool {
    let after_digits = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = &id[id.len() - after_digits(id)..];
    let fraction = rest.strip_prefix(['.', ',']).unwrap_or(rest);
    let rest = &fraction[fraction.len() - after_digits(fraction)..];
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return false };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the id is `#NAME?`, `#REF!`, `#N/A` and the like, or the mark of a cell that was too narrow.
fn is_error_value(id: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '_'))
    };
    let word = &id[1..];
    word == "N/A"
        || word.strip_suffix(['?', '!']).is_some_and(is_word)
        || (id.len() > 2 && id.bytes().all(|byte| byte == b'#'))
}

/// Whether `c` is a typographic replacement of a typed `-`.
fn is_typographic_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewritten_ids_are_classified_by_their_form() {
        use WarningKind::{Apostrophe, Dash, ErrorValue, Formula, Number};
        for (id, kind) in [
            ("1.4E+09", Some(Number)),
            ("1,4e9", Some(Number)),
            ("1E-5", Some(Number)),
            ("1e5", Some(Number)),
            ("#NAME?", Some(ErrorValue)),
            ("#REF!", Some(ErrorValue)),
            ("#DIV/0!", Some(ErrorValue)),
            ("#N/A", Some(ErrorValue)),
            ("#####", Some(ErrorValue)),
            ("=\"x\"", Some(Formula)),
            ("'x", Some(Apostrophe)),
            ("1400000000–x", Some(Dash)),
            ("1400000000\u{2011}x", Some(Dash)),
            ("−1", Some(Dash)),
            ("1400000000-@RBT#DeskDefaultRobot-e5", None),
            ("1400000000", None),
            ("1.5", None),
            ("1e", None),
            ("1e5x", None),
            ("#", None),
            ("#a-b", None),
            ("x=y'z", None),
            ("问题-1", None),
        ] {
            assert_eq!(rewritten(id), kind, "{id}");
        }
    }
}
