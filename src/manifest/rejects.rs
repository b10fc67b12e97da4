//! Bad rows as a file that is a manifest again once they are mended.
//!
//! Original columns, values byte for byte, and a `reason`; comma, UTF-8 if the input was
//! UTF-16, else the input's own bytes. Nothing of a row is lost: a short one is filled up
//! with empty fields; the surplus of a long one is added to its id, after blanks, so that
//! nobody imports it unmended (an id with blanks is refused), whichever column the
//! stray delimiter was in. Never more than a limit: short rows grow by their reasons.

use std::io::{self, Write};
use std::path::Path;

use csv::{ByteRecord, Writer};

use super::header;
use super::records::io_error;
use super::row_error::{RowError, WHOLE};

const REASON: &str = "reason";

/// What stands between an id and the surplus fields of its row.
const SURPLUS_MARK: &[u8] = b" | ";

/// The most bytes of rejects. More than a million bad rows are no slips of the pen.
pub const REJECTS_BYTES_MAX: u64 = 256 << 20;

/// Why no more rejects are written; travels through `io::Error`, since `Write` knows no other.
#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB of bad rows", REJECTS_BYTES_MAX >> 20)]
pub struct TooManyRejects;

/// Bad rows on their way to a file.
pub struct Rejects<W: Write> {
    csv: Writer<Counted<W>>,
    /// The columns of the input.
    columns: usize,
    /// Where the reason goes; equal to `columns` if the input has no place for it.
    reason: usize,
    /// Where the surplus of a long row goes.
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

    /// Writes one bad row.
    ///
    /// # Errors
    /// When the destination cannot be written, or has its limit.
    pub fn write(&mut self, bad: &RowError) -> io::Result<()> {
        self.rows += 1;
        let mut fields = bad.fields.clone();
        if bad.column == WHOLE && self.reason < self.columns {
            // What stands in the place of the reason need not be an old reason: fields
            // have moved, or an open quote took in other rows. It is kept as surplus.
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

    /// Writes what comes after the last row; the destination, and the number of its rows.
    ///
    /// # Errors
    /// When the destination cannot be written, or has its limit.
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

/// A destination that takes no more than its limit.
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

/// Whether a file that begins with `head` has the column that rejects have and manifests have not.
pub fn look_like_rejects(head: &[u8]) -> bool {
    let header = header::first_record(head, b',');
    header::position(&header, REASON).is_some() && header::id_column(&header).is_some()
}

/// Whether both paths lead to one existing file, by whatever names and links.
pub fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(a).is_some_and(|file| identity(b) == Some(file))
}
