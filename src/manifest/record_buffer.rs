//! The bytes of the current record beneath the CSV reader: line numbers, quotes, limits.
//!
//! The `csv` crate counts lines by line feeds. It gives a record the line where its search for the record
//! began, which is wrong after blank lines, with CRLF and with lone CR. It also accepts the end of the file
//! in place of a missing closing quote, which hides every row after the open quote. So this reader keeps the
//! bytes of the current record. Its caller reports where each record starts. It keeps at most one record and
//! one buffer.

use std::io::{self, Read};

use super::error::ReadFlaw;
use super::source::Input;

/// The longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// The most delimiters in a record, quoted ones included. The CSV reader keeps eight bytes per field, and
/// twice that while it grows, so 8 MiB of delimiters would take 128 MiB more.
pub const DELIMITERS_MAX: usize = 1_000_000;

/// Line feeds added after the end. A complete record consumes at most one of them; only an open quote
/// consumes two.
const TAIL_BYTES: usize = 2;

/// A reader that keeps the current record.
pub(super) struct RecordBuffer {
    inner: Input,
    delimiter: u8,
    /// The number of delimiters in `kept`.
    delimiters: usize,
    /// The bytes from the start of the record, or from shortly before it.
    kept: Vec<u8>,
    /// The position of `kept[0]` in the whole text.
    kept_from: u64,
    /// The index in `kept` where the record starts.
    start: usize,
    /// The line of that position.
    line: u64,
    /// Whether the byte before it is a CR. A following LF belongs to the same line end.
    after_cr: bool,
    /// The length of the whole text, once its end has been read.
    length: Option<u64>,
    tail: usize,
}

impl RecordBuffer {
    pub(super) fn new(inner: Input, delimiter: u8) -> Self {
        Self {
            inner,
            delimiter,
            delimiters: 0,
            kept: Vec::new(),
            kept_from: 0,
            start: 0,
            line: 1,
            after_cr: false,
            length: None,
            tail: TAIL_BYTES,
        }
    }

    /// Sets the start of the next record to `place`, or after the line ends that follow it.
    pub(super) fn begin(&mut self, place: u64) {
        let end = self.index(place);
        while self.start < end {
            self.pass_byte();
        }
    }

    /// The line on which the record starts.
    pub(super) fn line(&mut self) -> u64 {
        self.pass_line_ends();
        self.line
    }

    /// The bytes of the record that ends before `place`, quotes and delimiters included.
    pub(super) fn record(&mut self, place: u64) -> &[u8] {
        self.pass_line_ends();
        let end = self.index(place).max(self.start);
        &self.kept[self.start..end]
    }

    /// Whether a record that ends before `place` has a quote that is still open at the end of the text. Its
    /// last field then ends with two line feeds that are not in the file.
    pub(super) fn is_open_at_end(&self, place: u64) -> bool {
        self.length.is_some_and(|length| place >= length + TAIL_BYTES as u64)
    }

    fn index(&self, place: u64) -> usize {
        let index = place.saturating_sub(self.kept_from);
        usize::try_from(index).unwrap_or(usize::MAX).min(self.kept.len())
    }

    fn count(&self, bytes: &[u8]) -> usize {
        bytes.iter().map(|byte| usize::from(*byte == self.delimiter)).sum()
    }

    fn pass_byte(&mut self) {
        let byte = self.kept[self.start];
        if byte == b'\r' || (byte == b'\n' && !self.after_cr) {
            self.line += 1;
        }
        self.after_cr = byte == b'\r';
        self.start += 1;
    }

    fn pass_line_ends(&mut self) {
        while matches!(self.kept.get(self.start), Some(b'\r' | b'\n')) {
            self.pass_byte();
        }
    }
}

impl Read for RecordBuffer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The CSV reader asks for more only when it has consumed everything, so after this the buffer
        // contains only the current record.
        self.pass_line_ends();
        self.kept_from += self.start as u64;
        self.delimiters -= self.count(&self.kept[..self.start]);
        self.kept.drain(..self.start);
        self.start = 0;
        if self.kept.len() > RECORD_BYTES_MAX || self.delimiters > DELIMITERS_MAX {
            return Err(io::Error::other(ReadFlaw::TooLong));
        }
        let read = self.inner.read(buf)?;
        if read > 0 || buf.is_empty() {
            self.kept.extend_from_slice(&buf[..read]);
            self.delimiters += self.count(&buf[..read]);
            return Ok(read);
        }
        self.length.get_or_insert(self.kept_from + self.kept.len() as u64);
        let read = self.tail.min(buf.len());
        buf[..read].fill(b'\n');
        self.tail -= read;
        Ok(read)
    }
}
