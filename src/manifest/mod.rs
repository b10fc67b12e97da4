//! The manifest: CSV bytes in, rows or row errors out.
//!
//! Reads any CSV that people and spreadsheets make, one record at a time, and says of
//! each whether it is a job, a repetition or a mistake. Relies on `job` for what an id
//! and a status are. Memory is bounded by one record and, for each id, the few bytes
//! that find it again. Never touches a database, a terminal or the time.

mod dedupe;
mod error;
mod file;
mod gzip;
mod header;
mod kind;
mod options;
mod record_buffer;
mod records;
mod rejects;
mod row_error;
mod source;
#[cfg(test)]
mod tests;
mod warnings;

use std::io::{Cursor, Read};
use std::path::Path;

use csv::ByteRecord;

use crate::domain::job::{NewJob, QuestionId, Status};
use crate::util::escape::path_text;

pub use dedupe::IdSet;
pub use error::ManifestError;
pub use file::{ReadProgress, can_be_read_again, must_be_there};
pub use gzip::{UNPACKED_BYTES_FREE, UNPACKED_TIMES_MAX};
pub use header::COLUMNS_MAX;
pub use kind::Kind;
pub use options::{ManifestOptions, OnConflict};
pub use record_buffer::{DELIMITERS_MAX, RECORD_BYTES_MAX};
pub use rejects::{REJECTS_BYTES_MAX, Rejects, TooManyRejects, look_like_rejects, same_file};
pub use row_error::RowError;
pub use warnings::{Warning, WarningKind};

use dedupe::{Noted, SeenIds};
use file::Source;
use header::Columns;
use records::{Found, Records};
use row_error::FieldError;
use source::Digest;
use warnings::Warnings;

/// One record of a manifest, judged.
#[derive(Debug)]
pub enum Row {
    /// A question that no earlier row named.
    New(NewJob),
    /// Only with [`OnConflict::Last`]: takes the place of the job with this id that was
    /// given out before.
    Replace(NewJob),
    /// A record that is no job, and why.
    Bad(RowError),
    /// The first record that wants something else of a question than the job that was given
    /// out for it. That job does not count either, and neither does any later record of it.
    Conflict(RowError, QuestionId),
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
    /// What is odd about the good rows, those ids included.
    pub warnings: Vec<Warning>,
    /// Names this intent: the SHA-256 of the unpacked file in lower-case hex, or, with
    /// options that change its meaning, a hash over that hash and the options.
    pub digest: String,
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
    intents: SeenIds,
    totals: Totals,
    warnings: Warnings,
    digest: Digest,
    source: Source,
}

impl Manifest {
    /// Opens the file at `path`, or stdin for `-`, and reads its header.
    ///
    /// # Errors
    /// When there is no such file or it is no manifest; see [`ManifestError`].
    pub fn open(path: &Path, options: &ManifestOptions) -> Result<Self, ManifestError> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "stdin".to_owned() } else { path_text(path) };
        let (reader, source) = match Source::open(path, options.sets_aside) {
            Ok(opened) => opened,
            Err(source) => return Err(ManifestError::Open { name, source }),
        };
        Ok(Self { source, ..Self::from_reader(reader, &name, options)? })
    }

    /// How far it was read.
    pub fn progress(&self) -> ReadProgress {
        self.source.progress()
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
        let named = header::named_delimiter(&head);
        let delimiter = match options.delimiter {
            Some(byte) if header::can_delimit(byte) => byte,
            Some(byte) => return Err(ManifestError::Delimiter { byte }),
            None => named.unwrap_or_else(|| header::recognise_delimiter(&head)),
        };
        let mut records = Records::new(Box::new(Cursor::new(head).chain(text)), delimiter);
        let header = read_header(&name, &mut records, named.is_some())?;
        let columns = Columns::find(&name, &header, options.status.is_none())?;
        Ok(Self {
            name,
            options: options.clone(),
            records,
            header,
            columns,
            record: ByteRecord::new(),
            intents: SeenIds::new(),
            totals: Totals::default(),
            warnings: Warnings::default(),
            digest,
            source: Source::default(),
        })
    }

    /// Whether rows that want different things of one question were found, and none was told
    /// to count.
    pub fn has_conflicts(&self) -> bool {
        self.intents.has_conflicts()
    }

    /// The same manifest from its beginning, once it was read to its end, with every row of a
    /// question for which a conflict was found as a bad one.
    ///
    /// # Errors
    /// When it cannot be read a second time, or is not what it was.
    pub fn set_aside(self) -> Result<Self, ManifestError> {
        let Self { name, options, intents, source, .. } = self;
        let read = source.again().map_err(|e| ManifestError::from_read(&name, 1, e))?;
        let Some((reader, source)) = read else { return Err(ManifestError::Changed { name }) };
        let again = Self::from_reader(reader, &name, &options)?;
        Ok(Self { intents: intents.conflicts_alone(), source, ..again })
    }

    /// The header as it stands in the file.
    pub fn header(&self) -> &ByteRecord {
        &self.header
    }

    /// The next row, or `None` at the end of the file. Repetitions and blank lines are
    /// passed over.
    ///
    /// # Errors
    /// When the file cannot be read on, or has changed when its end is reached. Rows given out
    /// before are then part of an unfinished whole.
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
        self.source.must_be_unchanged(&self.name)?;
        Ok(None)
    }

    /// What the manifest came to. Call it after [`Manifest::next_row`] returned `None`:
    /// before that it speaks of what was read so far.
    pub fn finish(self) -> Totals {
        self.finish_with_questions().0
    }

    /// The same, and the questions that it names.
    pub fn finish_with_questions(self) -> (Totals, IdSet) {
        let ManifestOptions { sdkappid, status, .. } = self.options;
        let foreign = self.warnings.of(WarningKind::Foreign);
        let foreign = foreign.map(|(rows, example)| (rows, example.to_owned()));
        let totals = Totals {
            digest: self.digest.name(&self.options),
            foreign: foreign.as_ref().map_or(0, |(rows, _)| *rows),
            foreign_example: foreign.map(|(_, example)| example),
            warnings: self.warnings.finish(sdkappid, status),
            ..self.totals
        };
        (totals, self.intents.into_questions())
    }

    /// The job in the record at hand.
    fn read_job(&mut self, line: u64) -> Result<NewJob, FieldError> {
        let (has, wants) = (self.record.len(), self.header.len());
        if !self.has_its_fields() {
            return Err(FieldError::whole(format!(
                "has {has} field{}, the header has {wants}",
                if has == 1 { "" } else { "s" }
            )));
        }
        let field = |column: usize| self.record.get(column).unwrap_or_default();
        let question_id = QuestionId::parse(field(self.columns.id))
            .map_err(|reason| FieldError::field(self.columns.id, reason))?;
        let status = match (self.options.status, self.columns.status) {
            (Some(status), own) => {
                let own = own.map(field).unwrap_or_default();
                if !own.trim_ascii().is_empty() && parse_status(own) != Ok(status) {
                    self.warnings.overridden(self.totals.rows, line, own);
                }
                status
            }
            (None, Some(column)) => {
                parse_status(field(column)).map_err(|reason| FieldError::field(column, reason))?
            }
            (None, None) => return Err(FieldError::whole("has no status".to_owned())),
        };
        Ok(NewJob { question_id, status, line })
    }

    /// Whether the record at hand has as many fields as the header. Spreadsheets leave out the
    /// delimiters of empty last columns, and other programs end each row with one.
    fn has_its_fields(&self) -> bool {
        let (has, wants) = (self.record.len(), self.header.len());
        let status = self.columns.status.filter(|_| self.options.status.is_none());
        let last = self.columns.id.max(status.unwrap_or_default());
        let surplus = self.record.get(wants).unwrap_or_default();
        if has > wants { has == wants + 1 && surplus.trim_ascii().is_empty() } else { has > last }
    }

    /// Puts a job among those before it. `None` when it adds nothing.
    fn place(&mut self, job: NewJob) -> Result<Option<Row>, FieldError> {
        let earlier = match self.intents.note(&job) {
            Noted::New => {
                self.count_new(&job);
                return Ok(Some(Row::New(job)));
            }
            Noted::Conflict(lines) => return Err(self.conflict(&lines)),
            Noted::Earlier(earlier) => earlier,
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
        let lines = self.intents.set_aside(&job);
        self.totals.good -= 1;
        self.totals.bad += 1;
        self.totals.by_status[earlier.status as usize] -= 1;
        let flaw = self.conflict(&lines);
        Ok(Some(Row::Conflict(self.refuse(job.line, flaw), job.question_id)))
    }

    fn conflict(&self, lines: &str) -> FieldError {
        let reason = format!(
            "{lines}: keep one of them, or decide for all with --on-conflict first or last"
        );
        FieldError { column: self.columns.status, reason }
    }

    fn count_new(&mut self, job: &NewJob) {
        self.totals.good += 1;
        self.totals.by_status[job.status as usize] += 1;
        self.warnings.look_at(job, self.totals.rows, self.options.sdkappid);
    }

    fn refuse(&mut self, line: u64, flaw: FieldError) -> RowError {
        self.totals.bad += 1;
        RowError::new(self.totals.rows, line, flaw, &self.header, &self.record)
    }
}

/// The first record that has text in it, after the line that names the delimiter if there is
/// one. An error if its quotes are wrong: it may then have taken in rows.
fn read_header(
    name: &str,
    records: &mut Records,
    mut is_after_delimiter: bool,
) -> Result<ByteRecord, ManifestError> {
    let mut header = ByteRecord::new();
    while let Some(Found { line, flaw }) = records
        .next(&mut header)
        .map_err(|(line, source)| ManifestError::from_read(name, line, source))?
    {
        if let Some(FieldError { reason, .. }) = flaw {
            return Err(ManifestError::Header { name: name.to_owned(), line, reason });
        }
        if !header::has_text(&header) || std::mem::take(&mut is_after_delimiter) {
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
