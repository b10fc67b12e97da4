//! Writes invalid rows to a file that is a valid manifest after they are corrected.
//!
//! It has the original columns, unchanged values, and a `reason`. The delimiter is a comma; the encoding is
//! UTF-8 if the input was UTF-16, else that of the input. No value is lost: a short row gets empty fields,
//! and the surplus of a long row is appended to its id after blanks. An id with blanks is invalid, so the
//! row cannot be imported uncorrected, whichever column had the stray delimiter. The size is limited, because
//! reasons make short rows longer.

use std::io::{self, Write};
use std::path::Path;

use csv::{ByteRecord, Writer};

use super::header;
use super::records::io_error;
use super::row_error::{RowError, WHOLE};

const REASON: &str = "reason";

/// The separator between an id and the surplus fields of its row.
const SURPLUS_MARK: &[u8] = b" | ";

/// The most bytes of rejects. A file with more than a million invalid rows is the wrong file.
pub const REJECTS_BYTES_MAX: u64 = 256 << 20;

/// Why no more rejects are written. It travels inside `io::Error`, because `Write` has no other error type.
#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB of invalid rows", REJECTS_BYTES_MAX >> 20)]
pub struct TooManyRejects;

/// Writes invalid rows to a file.
pub struct Rejects<W: Write> {
    csv: Writer<Counted<W>>,
    /// The columns of the input.
    columns: usize,
    /// The column of the reason; equal to `columns` if the input has no such column.
    reason: usize,
    /// The column that receives the surplus of a long row.
    surplus: usize,
    rows: u64,
}

impl<W: Write> Rejects<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When the destination cannot be written.
    pub fn new(to: W, header: &ByteRecord) -> io::Result<Self> {
        let columns = header.len();
        let reason = header::position(header, REASON).unwrap_or(columns);
        let surplus = header::id_column(header).map_or(0, |(column, _)| column);
        let csv = Writer::from_writer(Counted { inner: to, bytes: 0 });
        let mut rejects = Self { csv, columns, reason, surplus, rows: 0 };
        let name = header.get(reason).unwrap_or(REASON.as_bytes());
        rejects.write_record(header, name)?;
        Ok(rejects)
    }

    /// Writes one invalid row.
    ///
    /// # Errors
    /// When the destination cannot be written, or the file has reached its limit.
    pub fn write(&mut self, bad: &RowError) -> io::Result<()> {
        self.rows += 1;
        let mut fields = bad.fields.clone();
        if bad.column == WHOLE && self.reason < self.columns {
            // The value in the reason column may not be an old reason: fields may have shifted, or an open
            // quote may include other rows. It is kept as surplus.
            let moved = bad.fields.get(self.reason).unwrap_or_default();
            if !moved.is_empty() {
                for _ in fields.len()..self.columns {
                    fields.push_field(b"");
                }
                fields.push_field(moved);
            }
        }
        self.write_record(&fields, bad.reason.as_bytes())
    }

    /// Flushes the file. Returns the destination and the number of rows.
    ///
    /// # Errors
    /// When the destination cannot be written, or the file has reached its limit.
    pub fn finish(self) -> io::Result<(W, u64)> {
        let to = self.csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok((to.inner, self.rows))
    }

    fn write_record(&mut self, fields: &ByteRecord, reason: &[u8]) -> io::Result<()> {
        let mut row: Vec<Vec<u8>> = fields.iter().take(self.columns).map(<[u8]>::to_vec).collect();
        row.resize(self.columns.max(self.reason + 1), Vec::new());
        row[self.reason] = reason.to_vec();
        for field in fields.iter().skip(self.columns) {
            row[self.surplus].extend_from_slice(SURPLUS_MARK);
            row[self.surplus].extend_from_slice(field);
        }
        self.csv.write_byte_record(&row.into()).map_err(io_error)
    }
}

/// A destination with a size limit.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.bytes > REJECTS_BYTES_MAX {
            return Err(io::Error::other(TooManyRejects));
        }
        let written = self.inner.write(buf)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a file that begins with `head` has the reason column, which rejects have and manifests do not.
pub fn look_like_rejects(head: &[u8]) -> bool {
    let header = header::first_record(head, b',');
    header::position(&header, REASON).is_some() && header::id_column(&header).is_some()
}

/// Whether both paths lead to the same existing file, through any names and links.
pub fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(a).is_some_and(|file| identity(b) == Some(file))
}
