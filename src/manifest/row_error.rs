//! Invalid rows, described so that a person can find and fix them.
//!
//! A manifest is untrusted text: this module never shows a byte that a terminal would interpret.

use std::fmt::{self, Write as _};

use csv::ByteRecord;

use crate::util::escape::visible;

/// The most characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

/// The column of an error that concerns the record as a whole.
pub(super) const WHOLE: &str = "-";

/// An invalid record.
#[derive(Debug, Clone)]
pub struct RowError {
    /// Its number among the records after the header, from 1, without blank ones.
    pub record: u64,
    /// The line of the file where the record starts.
    pub line: u64,
    /// The name of the invalid column; `-` for the record as a whole.
    pub column: String,
    /// The invalid field or the whole record, safe to show: at most 60 characters, with unprintable ones
    /// escaped.
    pub value: String,
    /// The error and the valid values.
    pub reason: String,
    /// The fields as in the file.
    pub fields: ByteRecord,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, line, column, value, reason, .. } = self;
        write!(f, "record {record}, line {line}, column {column}: \"{value}\": {reason}")
    }
}

/// Why a record is not a job.
#[derive(Debug)]
pub(super) struct FieldError {
    /// The invalid field; `None` for the record as a whole.
    pub(super) column: Option<usize>,
    /// The error and the valid values.
    pub(super) reason: String,
}

impl FieldError {
    pub(super) fn field(column: usize, reason: String) -> Self {
        Self { column: Some(column), reason }
    }

    pub(super) fn whole(reason: String) -> Self {
        Self { column: None, reason }
    }
}

impl RowError {
    pub(super) fn new(
        record: u64,
        line: u64,
        flaw: FieldError,
        header: &ByteRecord,
        fields: &ByteRecord,
    ) -> Self {
        let name = |column: usize| shown(header.get(column).unwrap_or_default().trim_ascii());
        let value = match flaw.column {
            Some(column) => shown(fields.get(column).unwrap_or_default()),
            // This number of fields fills the value even if all of them are empty.
            None => shown(&fields.iter().take(VALUE_CHARS_MAX + 2).collect::<Vec<_>>().join(&b',')),
        };
        Self {
            record,
            line,
            column: flaw.column.map_or_else(|| WHOLE.to_owned(), name),
            value,
            reason: flaw.reason,
            fields: fields.clone(),
        }
    }
}

/// Any bytes as safe text for a terminal or a log: shortened, with unprintable characters escaped.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut chars = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(escaped);
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in valid.chain(invalid) {
            if chars == VALUE_CHARS_MAX {
                text.push('…');
                return text;
            }
            chars += 1;
            // Writing to a string cannot fail.
            let _ = text.write_str(&piece);
        }
    }
    text
}

/// Escapes as in a Rust string: the short form where one is common, else the code of an unsafe character.
fn escaped(c: char) -> String {
    match c {
        '\0' => r"\0".to_owned(),
        '\n' | '\r' | '\t' | '"' | '\\' => c.escape_default().to_string(),
        _ => visible(c.encode_utf8(&mut [0; 4])).into_owned(),
    }
}
