//! Why a complete manifest cannot be read.
//!
//! Each text names the file, the error and the remedy. An error in a single row is a [`super::RowError`].

use std::io;

use super::{
    COLUMNS_MAX, DELIMITERS_MAX, Kind, RECORD_BYTES_MAX, UNPACKED_BYTES_FREE, UNPACKED_TIMES_MAX,
};

/// Why a complete manifest cannot be read, or cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file does not exist, or this process may not read it.
    #[error("cannot open {name}")]
    Open {
        /// The file.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The system failed to read further.
    #[error("cannot read {name} at line {line}")]
    Read {
        /// The file.
        name: String,
        /// The line of the record that could not be read.
        line: u64,
        /// The error of the system.
        source: io::Error,
    },
    /// The file begins like gzip but is not valid gzip, or is truncated.
    #[error(
        "{name}: the gzip data is damaged or truncated near line {line}: {reason}. Check the file with `gzip -t`, and \
             copy or download it again."
    )]
    Gzip {
        /// The file.
        name: String,
        /// The line up to which it could be unpacked.
        line: u64,
        /// The error of the decompressor.
        reason: String,
    },
    /// A record that is too long, such as text without line ends.
    #[error("{name}: a record of more than {} MiB or {DELIMITERS_MAX} delimiters starts at line {line}. Is this a CSV \
             file? If it is, a quote in that line is opened and never closed.",
             RECORD_BYTES_MAX >> 20)]
    TooLong {
        /// The file.
        name: String,
        /// The line where the record starts.
        line: u64,
    },
    /// A header with more columns than a manifest can have.
    #[error(
        "{name}: the header at line {line} has {found} columns; at most {COLUMNS_MAX} are allowed, and two are enough. \
             Check that this is the right file, and set its delimiter with --delimiter."
    )]
    TooManyColumns {
        /// The file.
        name: String,
        /// The line where the header starts.
        line: u64,
        /// The number of columns.
        found: usize,
    },
    /// No line with text.
    #[error("{name} is empty. The first line must name the columns, e.g. `question_id,status`.")]
    Empty {
        /// The file.
        name: String,
    },
    /// NUL bytes in the header: UTF-16 text without a byte order mark.
    #[error(
        "{name}: the header contains NUL bytes, probably UTF-16 without a byte order mark. Save the file as \
             \"CSV UTF-8\", or convert it with `iconv -f UTF-16LE -t UTF-8` (or UTF-16BE)."
    )]
    Utf16 {
        /// The file.
        name: String,
    },
    /// Another file format, recognised by its first bytes.
    #[error("{name} is {}, not CSV. {}.", kind.what, kind.advice)]
    Kind {
        /// The file.
        name: String,
        /// The format.
        kind: Kind,
    },
    /// Gzip data that unpack to far more than any manifest.
    #[error(
        "{name} unpacks to more than {} MiB, over {UNPACKED_TIMES_MAX} times its size, near line {line}. Is this the \
             right file? If it is, unpack it with `gzip -d` and import the result.",
        UNPACKED_BYTES_FREE >> 20
    )]
    TooFarPacked {
        /// The file.
        name: String,
        /// The line up to which it was unpacked.
        line: u64,
    },
    /// Another process rewrote or replaced the file during the import.
    #[error(
        "{name} was changed while it was read. Nothing was imported. Run again when the file is complete."
    )]
    Changed {
        /// The file.
        name: String,
    },
    /// The quotes of the header are invalid, so that the header may contain rows.
    #[error("{name}: the header at line {line} is invalid: {reason}")]
    Header {
        /// The file.
        name: String,
        /// The line where the header starts.
        line: u64,
        /// What is wrong with the quotes.
        reason: String,
    },
    /// The header has no known name for the id column.
    #[error(
        "{name}: no column contains the question ids{meant}. Name the column question_id (also accepted: \
             StandardQuestionId, standard_question_id, id). The header has: {found}"
    )]
    NoIdColumn {
        /// The file.
        name: String,
        /// The columns of the header.
        found: String,
        /// The column that was probably meant, as a question in parentheses; may be empty.
        meant: String,
    },
    /// The header has no status column, and no option sets one status for all rows.
    #[error(
        "{name}: no column is named status{meant}. Add one, or set one status for all rows with --status. The header \
             has: {found}"
    )]
    NoStatusColumn {
        /// The file.
        name: String,
        /// The columns of the header.
        found: String,
        /// The column that was probably meant, as a question in parentheses; may be empty.
        meant: String,
    },
    /// Two columns have the same name, so the right one is unknown.
    #[error("{name}: the header has the column {column} more than once: rename or remove one")]
    ColumnTwice {
        /// The file.
        name: String,
        /// The name that occurs twice.
        column: String,
    },
    /// A delimiter that could be confused with quotes, line ends or parts of other characters.
    #[error("the delimiter {:?} is invalid: use one ASCII character that is neither a quote nor a line break",
            char::from(*byte))]
    Delimiter {
        /// The given delimiter.
        byte: u8,
    },
}

/// The errors of the readers below the CSV reader. They travel inside `io::Error`, because `Read` has no
/// other error type.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFlaw {
    #[error("a record is too long")]
    TooLong,
    #[error("damaged gzip data: {0}")]
    Gzip(String),
    #[error("gzip data that unpack to too much")]
    TooFarPacked,
    #[error("is {}", .0.what)]
    Kind(Kind),
}

impl ManifestError {
    /// Classifies an error that occurred while the record at `line` was read.
    pub(super) fn from_read(name: &str, line: u64, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.get_ref().and_then(|flaw| flaw.downcast_ref()) {
            Some(ReadFlaw::TooLong) => Self::TooLong { name, line },
            Some(ReadFlaw::TooFarPacked) => Self::TooFarPacked { name, line },
            Some(ReadFlaw::Kind(kind)) => Self::Kind { name, kind: *kind },
            Some(ReadFlaw::Gzip(reason)) => Self::Gzip { name, line, reason: reason.clone() },
            None => Self::Read { name, line, source },
        }
    }
}
