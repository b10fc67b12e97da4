//! The header line: its delimiter and its columns.
//!
//! Relies on the `csv` crate for quotes. Never reads a row.

use csv::{ByteRecord, ReaderBuilder};

use super::error::ManifestError;
use super::row_error::shown;
use crate::util::escape::is_unsafe;
use crate::util::suggest::nearest;

/// The names of the id column, the most specific first.
const ID_NAMES: [&str; 4] = ["question_id", "StandardQuestionId", "standard_question_id", "id"];

/// The delimiters that can be recognised from the header line, the most usual first.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// The most columns that a manifest may have.
pub const COLUMNS_MAX: usize = 1_000;

/// The most columns that an error lists.
const COLUMNS_LISTED_MAX: usize = 20;

/// The positions of the two columns that a manifest needs.
#[derive(Debug)]
pub(super) struct Columns {
    /// The question ids.
    pub(super) id: usize,
    /// The statuses. `None` if an option sets one status for all rows and the file has no status column.
    pub(super) status: Option<usize>,
}

impl Columns {
    /// Finds the columns in the header of the manifest `name`.
    pub(super) fn find(
        name: &str,
        header: &ByteRecord,
        wants_status: bool,
    ) -> Result<Self, ManifestError> {
        if header.as_slice().contains(&0) {
            return Err(ManifestError::Utf16 { name: name.to_owned() });
        }
        let Some((id, column)) = id_column(header) else {
            let (found, meant) = (list(header), meant(header, &ID_NAMES));
            return Err(ManifestError::NoIdColumn { name: name.to_owned(), found, meant });
        };
        only_once(name, header, column)?;
        let status = position(header, "status");
        if !wants_status {
            return Ok(Self { id, status });
        }
        let Some(status) = status else {
            let (found, meant) = (list(header), meant(header, &["status"]));
            return Err(ManifestError::NoStatusColumn { name: name.to_owned(), found, meant });
        };
        only_once(name, header, "status")?;
        Ok(Self { id, status: Some(status) })
    }
}

/// The position of the id column, and the name that matched.
pub(super) fn id_column(header: &ByteRecord) -> Option<(usize, &'static str)> {
    ID_NAMES.into_iter().find_map(|name| Some((position(header, name)?, name)))
}

/// The position of the first column with `name`, in any case.
pub(super) fn position(header: &ByteRecord, name: &str) -> Option<usize> {
    header.iter().position(|field| is_called(field, name))
}

fn is_called(field: &[u8], name: &str) -> bool {
    trimmed(field).eq_ignore_ascii_case(name.as_bytes())
}

/// A name without surrounding invisible characters: blanks of every kind and zero-width marks.
fn trimmed(field: &[u8]) -> &[u8] {
    let is_unseen = |c: char| c.is_whitespace() || is_unsafe(c);
    std::str::from_utf8(field)
        .map_or_else(|_| field.trim_ascii(), |text| text.trim_matches(is_unseen).as_bytes())
}

fn only_once(name: &str, header: &ByteRecord, column: &str) -> Result<(), ManifestError> {
    if header.iter().filter(|field| is_called(field, column)).count() > 1 {
        let column = column.to_owned();
        return Err(ManifestError::ColumnTwice { name: name.to_owned(), column });
    }
    Ok(())
}

fn list(header: &ByteRecord) -> String {
    let mut names: Vec<String> =
        header.iter().take(COLUMNS_LISTED_MAX).map(|field| shown(trimmed(field))).collect();
    if header.len() > COLUMNS_LISTED_MAX {
        names.push(format!("and {} more", header.len() - COLUMNS_LISTED_MAX));
    }
    names.join(", ")
}

/// A question in parentheses that names the first column whose name resembles one of `names`.
fn meant(header: &ByteRecord, names: &[&str]) -> String {
    let slip = header.iter().take(COLUMNS_LISTED_MAX).find_map(|field| {
        let field = std::str::from_utf8(trimmed(field)).ok()?;
        Some((field, nearest(field, names.iter().copied())?))
    });
    slip.map_or_else(String::new, |(field, name)| {
        format!(" (rename {} to {name}?)", shown(field.as_bytes()))
    })
}

/// Whether `byte` cannot be confused with quotes, line ends or parts of other characters.
pub(super) fn can_delimit(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0)
}

/// The delimiter that a first line such as `sep=;` sets. Spreadsheets write this line for each other.
pub(super) fn named_delimiter(head: &[u8]) -> Option<u8> {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?.trim_ascii_end();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let name = line.get(..4).filter(|name| name.eq_ignore_ascii_case(b"sep="))?;
    match &line[name.len()..] {
        [] => Some(b'\t'),
        [byte] if can_delimit(*byte) => Some(*byte),
        _ => None,
    }
}

/// The delimiter of the header in `head`, the first bytes of a manifest. A delimiter that yields a known id
/// column wins, then the most frequent one, then the comma.
pub(super) fn recognise_delimiter(head: &[u8]) -> u8 {
    let worth = |delimiter: u8| {
        let header = first_record(head, delimiter);
        (id_column(&header).is_some(), header.len())
    };
    // `max_by_key` returns the last of equal elements, so the comma comes last.
    DELIMITERS.into_iter().rev().max_by_key(|delimiter| worth(*delimiter)).unwrap_or(b',')
}

pub(super) fn first_record(head: &[u8], delimiter: u8) -> ByteRecord {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(head);
    let mut record = ByteRecord::new();
    // Reading from memory cannot fail, and an empty record means that there is none.
    while matches!(reader.read_byte_record(&mut record), Ok(true)) {
        if has_text(&record) {
            return record;
        }
    }
    ByteRecord::new()
}

/// Whether a record can be a header. The delimiter is not known yet, so every delimiter counts as a blank.
pub(super) fn has_text(record: &ByteRecord) -> bool {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || DELIMITERS.contains(byte);
    !record.as_slice().iter().all(is_blank)
}
