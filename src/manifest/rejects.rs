//! Bad rows as a file that is a manifest again once they are mended.
//!
//! Original columns, values byte for byte, and a `reason`; comma, UTF-8 if the input was
//! UTF-16, else the input's own bytes. Nothing of a row is lost: a short one is filled up
//! with empty fields; the surplus of a long one is added to its id, after blanks, so that
//! nobody imports it unmended (an id with blanks is refused), whichever column the
//! stray delimiter was in. Never readable by others: a manifest may hold anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use csv::{ByteRecord, Writer};

use super::bad::{BadRow, WHOLE};
use super::header;

const REASON: &str = "reason";

/// What stands between an id and the surplus fields of its row.
const SURPLUS_MARK: &[u8] = b" | ";

/// A file of bad rows.
pub struct Rejects {
    csv: Writer<File>,
    /// The columns of the input.
    columns: usize,
    /// Where the reason goes; equal to `columns` if the input has no place for it.
    reason: usize,
    /// Where the surplus of a long row goes.
    surplus: usize,
    rows: u64,
}

impl Rejects {
    /// Creates the file, or empties it, and writes the header. That it is not the input
    /// itself has to be checked before, with [`same_file`].
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(path: &Path, header: &ByteRecord) -> io::Result<Self> {
        let columns = header.len();
        let reason = header::position(header, REASON).unwrap_or(columns);
        let surplus = header::id_column(header).map_or(0, |(column, _)| column);
        let csv = Writer::from_writer(create_private(path)?);
        let mut rejects = Self { csv, columns, reason, surplus, rows: 0 };
        let name = header.get(reason).unwrap_or(REASON.as_bytes());
        rejects.write_record(header, name)?;
        Ok(rejects)
    }

    /// Writes one bad row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, bad: &BadRow) -> io::Result<()> {
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

    /// Completes the file and returns the number of its rows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<u64> {
        self.csv.flush()?;
        Ok(self.rows)
    }

    fn write_record(&mut self, fields: &ByteRecord, reason: &[u8]) -> io::Result<()> {
        let mut row: Vec<Vec<u8>> = fields.iter().take(self.columns).map(<[u8]>::to_vec).collect();
        row.resize(self.columns.max(self.reason + 1), Vec::new());
        row[self.reason] = reason.to_vec();
        for field in fields.iter().skip(self.columns) {
            row[self.surplus].extend_from_slice(SURPLUS_MARK);
            row[self.surplus].extend_from_slice(field);
        }
        Ok(self.csv.write_byte_record(&row.into())?)
    }
}

/// Opens an empty file that its owner alone may read, also where one was before.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Whether both paths lead to one existing file, by whatever names and links.
pub fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
    };
    #[cfg(not(unix))]
    let identity = |path: &Path| std::fs::canonicalize(path).ok();
    identity(a).is_some_and(|file| identity(b) == Some(file))
}
