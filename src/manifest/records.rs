//! Splits text into records with the `csv` crate, made strict where a row could get lost.
//!
//! Relies on [`RecordBuffer`] for what the crate does not report. Knows fields, not their meaning. Never lets
//! a misplaced quote hide rows silently.

use std::io;

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::record_buffer::RecordBuffer;
use super::row_error::FieldError;
use super::source::Input;

const BUFFER_BYTES: usize = 64 * 1024;

/// The records of a text.
pub(super) struct Records {
    csv: Reader<RecordBuffer>,
    delimiter: u8,
}

/// The properties of a record that was read.
pub(super) struct ReadRecord {
    /// The line on which it starts.
    pub(super) line: u64,
    /// The error in its quotes, if any.
    pub(super) flaw: Option<FieldError>,
}

impl Records {
    pub(super) fn new(text: Input, delimiter: u8) -> Self {
        let csv = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(RecordBuffer::new(text, delimiter));
        Self { csv, delimiter }
    }

    /// Reads the next record that is not blank. `None` at the end, which is also the end of the bytes. An
    /// error has the line of the record where it occurred.
    pub(super) fn next(
        &mut self,
        record: &mut ByteRecord,
    ) -> Result<Option<ReadRecord>, (u64, io::Error)> {
        loop {
            let place = self.csv.position().byte();
            self.csv.get_mut().begin(place);
            match self.csv.read_byte_record(record) {
                Ok(true) => {}
                Ok(false) => return self.drain().map(|()| None),
                Err(error) => return Err((self.csv.get_mut().line(), io_error(error))),
            }
            let flaw = self.quote_flaw(record);
            if flaw.is_some() || !is_blank(record) {
                return Ok(Some(ReadRecord { line: self.csv.get_mut().line(), flaw }));
            }
        }
    }

    /// Reads the rest of the bytes, because the digest covers the whole file wherever the CSV reader stops.
    fn drain(&mut self) -> Result<(), (u64, io::Error)> {
        let buffer = self.csv.get_mut();
        match io::copy(buffer, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err((buffer.line(), error)),
        }
    }

    fn quote_flaw(&mut self, record: &mut ByteRecord) -> Option<FieldError> {
        let end = self.csv.position().byte();
        let buffer = self.csv.get_mut();
        if buffer.is_open_at_end(end) {
            trim_tail(record);
            let reason = "a quote is opened here and never closed: its field contains all following \
                          lines";
            return Some(FieldError::whole(reason.to_owned()));
        }
        let spans_lines = record.as_slice().iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        if spans_lines && ends_in_midfield(buffer.record(end), self.delimiter) {
            let reason = "a quoted field spans several lines and text follows its closing quote: \
                          one quote is missing or superfluous, and the field may contain other rows";
            return Some(FieldError::whole(reason.to_owned()));
        }
        None
    }
}

/// The I/O error inside `error`, which must not be hidden inside another one.
pub(super) fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn is_blank(record: &ByteRecord) -> bool {
    record.as_slice().iter().all(u8::is_ascii_whitespace)
}

/// Removes the line feeds that the buffer added to an open quote.
fn trim_tail(record: &mut ByteRecord) {
    let last = record.len().saturating_sub(1);
    let fields = record.iter().enumerate().map(|(at, field)| {
        if at == last { field.strip_suffix(b"\n\n").unwrap_or(field) } else { field }
    });
    *record = fields.collect();
}

/// Whether other text follows the closing quote of a quoted field with a line break. This is the mark of an
/// opening quote that was never closed and matched the quote of a later field. On a single line some writers
/// do the same on purpose, and it hides no row.
fn ends_in_midfield(raw: &[u8], delimiter: u8) -> bool {
    let mut bytes = raw.iter().copied().peekable();
    let mut at_start = true;
    while let Some(byte) = bytes.next() {
        if !(at_start && byte == b'"') {
            at_start = byte == delimiter;
            continue;
        }
        let mut spans_lines = false;
        while let Some(inside) = bytes.next() {
            spans_lines |= matches!(inside, b'\r' | b'\n');
            if inside == b'"' && bytes.next_if_eq(&b'"').is_none() {
                break;
            }
        }
        while delimiter != b' ' && bytes.next_if_eq(&b' ').is_some() {}
        let ends_well =
            bytes.peek().is_none_or(|next| *next == delimiter || matches!(next, b'\r' | b'\n'));
        if spans_lines && !ends_well {
            return true;
        }
        at_start = false;
    }
    false
}
