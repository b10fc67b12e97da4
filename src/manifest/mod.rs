//! The manifest: CSV bytes in, rows or row errors out.
//!
//! Reads any CSV that people and spreadsheets make, one record at a time, and says of
//! each whether it is a job, a repetition or a mistake. Relies on `job` for what an id
//! and a status are. Memory is bounded by one record and, for each id, the few bytes
//! that find it again. Never touches a database, a terminal or the time.

mod bad;
mod dedupe;
mod error;
mod header;
mod records;
mod rejects;
mod source;
#[cfg(test)]
mod tests;
mod warnings;
mod window;

use crate::text::path_text;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::ByteRecord;

use crate::job::{NewJob, QuestionId, Status};
use crate::nearest::did_you_mean;

pub use bad::BadRow;
pub use error::ManifestError;
pub use header::COLUMNS_MAX;
pub use rejects::{REJECTS_BYTES_MAX, Rejects, TooManyRejects, look_like_rejects, same_file};
pub use window::{DELIMITERS_MAX, RECORD_BYTES_MAX};

use bad::Flaw;
use dedupe::Intents;
pub use dedupe::Questions;
use header::Columns;
use records::{Found, Records};
use source::Digest;

/// How a manifest is to be read.
#[derive(Debug, Clone, Default)]
pub struct ManifestOptions {
    /// One status for every row; a status column is then ignored.
    pub status: Option<Status>,
    /// What stands between fields; recognised from the header line if not given.
    pub delimiter: Option<u8>,
    /// Which row counts when two want different things of one question; an error if
    /// not given.
    pub on_conflict: Option<OnConflict>,
    /// The app whose questions these should be; only for [`Totals::foreign`].
    pub sdkappid: u64,
}

/// Which row counts when two want different things of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The row that comes first in the file.
    First,
    /// The row that comes last in the file.
    Last,
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Last => "last",
        })
    }
}

impl FromStr for OnConflict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::First, Self::Last]
            .into_iter()
            .find(|choice| text.eq_ignore_ascii_case(&choice.to_string()))
            .ok_or_else(|| {
                let meant = did_you_mean(text, ["first", "last"]);
                format!("not a choice: {meant}use first or last")
            })
    }
}

/// One record of a manifest, judged.
#[derive(Debug)]
pub enum Row {
    /// A question that no earlier row named.
    New(NewJob),
    /// Only with [`OnConflict::Last`]: takes the place of the job with this id that was
    /// given out before.
    Replace(NewJob),
    /// A record that is no job, and why.
    Bad(BadRow),
}

/// What a whole manifest came to. `rows` is always `good + duplicates + bad`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records after the header, blank ones left out.
    pub rows: u64,
    /// Distinct jobs.
    pub good: u64,
    /// Rows that name a question which already has its job: repetitions, and both ways
    /// of resolving a conflict (one of the two rows does not count).
    pub duplicates: u64,
    /// Rows that are no jobs.
    pub bad: u64,
    /// The distinct jobs by status, in the order of [`Status::ALL`].
    pub by_status: [u64; 3],
    /// Distinct jobs whose id begins with another app's number; ids that begin with no
    /// number at all are not counted.
    pub foreign: u64,
    /// The first of those ids.
    pub foreign_example: Option<String>,
    /// What a person has to read before these jobs are sent, a sentence each.
    pub warnings: Vec<String>,
    /// Names this intent: the SHA-256 of the unpacked file in lower-case hex, or, with
    /// options that change its meaning, a hash over that hash and the options.
    pub digest: String,
}

/// How far a manifest was read; may be looked at from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct ReadSoFar {
    bytes: Arc<AtomicU64>,
    total: Option<u64>,
}

impl ReadSoFar {
    /// Bytes of the file as it is, packed or not.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The size of the file in bytes; `None` for what is no file.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// A reader that tells how far it is.
struct Counted<R>(R, ReadSoFar);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buf)?;
        self.1.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A manifest that is being read.
pub struct Manifest {
    name: String,
    options: ManifestOptions,
    records: Records,
    header: ByteRecord,
    columns: Columns,
    /// The record at hand; kept here so that its memory is used again.
    record: ByteRecord,
    intents: Intents,
    totals: Totals,
    digest: Digest,
    so_far: ReadSoFar,
}

impl Manifest {
    /// Opens the file at `path`, or stdin for `-`, and reads its header.
    ///
    /// # Errors
    /// When there is no such file or it is no manifest; see [`ManifestError`].
    pub fn open(path: &Path, options: &ManifestOptions) -> Result<Self, ManifestError> {
        let mut so_far = ReadSoFar::default();
        let (reader, name): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(Counted(std::io::stdin(), so_far.clone())), "stdin".to_owned())
        } else {
            let name = path_text(path);
            let (file, bytes) = match open_file(path) {
                Ok(found) => found,
                Err(source) => return Err(ManifestError::Open { name, source }),
            };
            so_far.total = bytes;
            (Box::new(Counted(file, so_far.clone())), name)
        };
        Ok(Self { so_far, ..Self::from_reader(reader, &name, options)? })
    }

    /// How far it was read.
    pub fn so_far(&self) -> ReadSoFar {
        self.so_far.clone()
    }

    /// Reads the header of the manifest in `reader`; `source` is its name in errors.
    ///
    /// # Errors
    /// When it cannot be read or is no manifest; see [`ManifestError`].
    pub fn from_reader(
        reader: Box<dyn Read + Send>,
        source: &str,
        options: &ManifestOptions,
    ) -> Result<Self, ManifestError> {
        let name = source.to_owned();
        let unread = |source| ManifestError::from_read(&name, 1, source);
        let (mut text, digest) = source::text(reader).map_err(unread)?;
        let head = source::peek(&mut text).map_err(unread)?;
        if header::is_workbook(&head) {
            return Err(ManifestError::Workbook { name });
        }
        let delimiter = match options.delimiter {
            Some(byte) if header::can_delimit(byte) => byte,
            Some(byte) => return Err(ManifestError::Delimiter { byte }),
            None => header::recognise_delimiter(&head),
        };
        let mut records = Records::new(Box::new(Cursor::new(head).chain(text)), delimiter);
        let header = read_header(&name, &mut records)?;
        let columns = Columns::find(&name, &header, options.status.is_none())?;
        Ok(Self {
            name,
            options: options.clone(),
            records,
            header,
            columns,
            record: ByteRecord::new(),
            intents: Intents::new(),
            totals: Totals::default(),
            digest,
            so_far: ReadSoFar::default(),
        })
    }

    /// The header as it stands in the file.
    pub fn header(&self) -> &ByteRecord {
        &self.header
    }

    /// The next row, or `None` at the end of the file. Repetitions and blank lines are
    /// passed over.
    ///
    /// # Errors
    /// When the file cannot be read on. Rows given out before are then part of an
    /// unfinished whole.
    pub fn next_row(&mut self) -> Result<Option<Row>, ManifestError> {
        while let Some(found) = self
            .records
            .next(&mut self.record)
            .map_err(|(line, source)| ManifestError::from_read(&self.name, line, source))?
        {
            self.totals.rows += 1;
            let judged = match found.flaw {
                Some(flaw) => Err(flaw),
                None => self.read_job(found.line).and_then(|job| self.place(job)),
            };
            let row = judged.unwrap_or_else(|flaw| Some(Row::Bad(self.refuse(found.line, flaw))));
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }

    /// What the manifest came to. Call it after [`Manifest::next_row`] returned `None`:
    /// before that it speaks of what was read so far.
    pub fn finish(self) -> Totals {
        self.finish_with_questions().0
    }

    /// The same, and the questions that it names.
    pub fn finish_with_questions(self) -> (Totals, Questions) {
        let (digest, warnings) =
            (self.digest.name(&self.options), warnings::of(&self.totals, &self.options));
        (Totals { warnings, digest, ..self.totals }, self.intents.into_questions())
    }

    /// The job in the record at hand.
    fn read_job(&self, line: u64) -> Result<NewJob, Flaw> {
        let (has, wants) = (self.record.len(), self.header.len());
        if has != wants {
            return Err(Flaw::whole(format!(
                "has {has} field{}, the header has {wants}",
                if has == 1 { "" } else { "s" }
            )));
        }
        let field = |column: usize| self.record.get(column).unwrap_or_default();
        let question_id = QuestionId::parse(field(self.columns.id))
            .map_err(|reason| Flaw::field(self.columns.id, reason))?;
        let status = match (self.options.status, self.columns.status) {
            (Some(status), _) => status,
            (None, Some(column)) => {
                parse_status(field(column)).map_err(|reason| Flaw::field(column, reason))?
            }
            (None, None) => return Err(Flaw::whole("has no status".to_owned())),
        };
        Ok(NewJob { question_id, status, line })
    }

    /// Puts a job among those before it. `None` when it adds nothing.
    fn place(&mut self, job: NewJob) -> Result<Option<Row>, Flaw> {
        let Some(earlier) = self.intents.note(&job) else {
            self.count_new(&job);
            return Ok(Some(Row::New(job)));
        };
        let on_conflict = self.options.on_conflict;
        if earlier.status == job.status || on_conflict == Some(OnConflict::First) {
            self.totals.duplicates += 1;
            return Ok(None);
        }
        if on_conflict == Some(OnConflict::Last) {
            self.intents.replace(&job);
            self.totals.duplicates += 1;
            self.totals.by_status[earlier.status as usize] -= 1;
            self.totals.by_status[job.status as usize] += 1;
            return Ok(Some(Row::Replace(job)));
        }
        let reason = format!(
            "line {} says {}, line {} says {}: keep one of them, or decide for all with \
             --on-conflict first or last",
            earlier.line, earlier.status, job.line, job.status
        );
        Err(Flaw { column: self.columns.status, reason })
    }

    fn count_new(&mut self, job: &NewJob) {
        self.totals.good += 1;
        self.totals.by_status[job.status as usize] += 1;
        if job.question_id.owner().is_some_and(|owner| owner != self.options.sdkappid) {
            self.totals.foreign += 1;
            self.totals.foreign_example.get_or_insert_with(|| job.question_id.to_string());
        }
    }

    fn refuse(&mut self, line: u64, flaw: Flaw) -> BadRow {
        self.totals.bad += 1;
        BadRow::new(self.totals.rows, line, flaw, &self.header, &self.record)
    }
}

/// Fails if there is no file at `path`, so that a mistyped name is told before anything else.
/// It is not opened: a pipe can be opened once.
///
/// # Errors
/// [`ManifestError::Open`].
pub fn must_be_there(path: &Path) -> Result<(), ManifestError> {
    if path == Path::new("-") {
        return Ok(());
    }
    let found = fs::metadata(path).map(drop);
    found.map_err(|source| ManifestError::Open { name: path_text(path), source })
}

/// The system opens a folder and fails only when it is read, which would look like a
/// broken disk. Its size too, where it has one.
fn open_file(path: &Path) -> io::Result<(File, Option<u64>)> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((file, found.is_file().then_some(found.len())))
}

/// The first record that has text in it. An error if its quotes are wrong: it may then
/// have taken in rows.
fn read_header(name: &str, records: &mut Records) -> Result<ByteRecord, ManifestError> {
    let mut header = ByteRecord::new();
    while let Some(Found { line, flaw }) = records
        .next(&mut header)
        .map_err(|(line, source)| ManifestError::from_read(name, line, source))?
    {
        if let Some(Flaw { reason, .. }) = flaw {
            return Err(ManifestError::Header { name: name.to_owned(), line, reason });
        }
        if !header::has_text(&header) {
            continue;
        }
        let found = header.len();
        if found > COLUMNS_MAX {
            return Err(ManifestError::TooManyColumns { name: name.to_owned(), line, found });
        }
        return Ok(header);
    }
    Err(ManifestError::Empty { name: name.to_owned() })
}

fn parse_status(field: &[u8]) -> Result<Status, String> {
    std::str::from_utf8(field).map_err(|_| "not UTF-8 text".to_owned())?.trim().parse()
}
