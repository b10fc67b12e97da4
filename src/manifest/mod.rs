//! The manifest: CSV bytes in, rows or row errors out.
//!
//! Reads any CSV that people and spreadsheets write, one record at a time, and classifies each record as a
//! job, a duplicate or an error. Memory is bounded by one record and the hash of each id. Uses no database,
//! no terminal and no clock.

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

use crate::domain::job::{NewJob, QuestionId, TargetStatus};
use crate::util::count::counted;
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
use records::{ReadRecord, Records};
use row_error::FieldError;
use source::Digest;
use warnings::Warnings;

/// One record of a manifest.
#[derive(Debug)]
pub enum Row {
    /// The first row of its question.
    New(NewJob),
    /// Only with [`OnConflict::Last`]: replaces the job of this question that was returned before.
    Replace(NewJob),
    /// An invalid record.
    Bad(RowError),
    /// The first record whose target status differs from that of the job that was returned for its
    /// question. That job does not count either, nor does any later record of the question.
    Conflict(RowError, QuestionId),
}

/// The totals of a manifest. `rows` is always `good + duplicates + bad`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records after the header, without blank ones.
    pub rows: u64,
    /// Distinct jobs.
    pub good: u64,
    /// Rows of a question that already has its job: duplicates, and the rows that lose a resolved conflict.
    pub duplicates: u64,
    /// Invalid rows.
    pub bad: u64,
    /// The distinct jobs by status, in the order of [`TargetStatus::ALL`].
    pub by_status: [u64; 3],
    /// Distinct jobs whose id begins with the number of another app. Ids that begin with no number do not
    /// count.
    pub other_app_ids: u64,
    /// The first of those ids.
    pub other_app_example: Option<String>,
    /// Unusual properties of the valid rows, those ids included.
    pub warnings: Vec<Warning>,
    /// Identifies the manifest with its options: the SHA-256 of the unpacked file in lower-case hex, or,
    /// with options that change its meaning, a hash over that hash and the options.
    pub digest: String,
}

/// A manifest during the import.
pub struct Manifest {
    name: String,
    options: ManifestOptions,
    records: Records,
    header: ByteRecord,
    columns: Columns,
    /// The current record; its memory is reused.
    record: ByteRecord,
    seen_ids: SeenIds,
    totals: Totals,
    warnings: Warnings,
    digest: Digest,
    source: Source,
}

impl Manifest {
    /// Opens the file at `path`, or stdin for `-`, and reads its header.
    ///
    /// # Errors
    /// When the file does not exist or is not a manifest; see [`ManifestError`].
    pub fn open(path: &Path, options: &ManifestOptions) -> Result<Self, ManifestError> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "stdin".to_owned() } else { path_text(path) };
        let (reader, source) = match Source::open(path, options.sets_aside) {
            Ok(opened) => opened,
            Err(source) => return Err(ManifestError::Open { name, source }),
        };
        Ok(Self { source, ..Self::from_reader(reader, &name, options)? })
    }

    /// How much of the manifest has been read.
    pub fn progress(&self) -> ReadProgress {
        self.source.progress()
    }

    /// Reads the header of the manifest in `reader`; `source` is its name in errors.
    ///
    /// # Errors
    /// When it cannot be read or is not a manifest; see [`ManifestError`].
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
            seen_ids: SeenIds::new(),
            totals: Totals::default(),
            warnings: Warnings::default(),
            digest,
            source: Source::default(),
        })
    }

    /// Whether rows of one question have different target statuses and no option resolves the conflict.
    pub fn has_conflicts(&self) -> bool {
        self.seen_ids.has_conflicts()
    }

    /// Restarts at the beginning of a manifest that was read to its end. In this second pass every row of a
    /// question with a conflict is invalid.
    ///
    /// # Errors
    /// When it cannot be read a second time, or has changed.
    pub fn set_aside(self) -> Result<Self, ManifestError> {
        let Self { name, options, seen_ids, source, .. } = self;
        let read = source.again().map_err(|e| ManifestError::from_read(&name, 1, e))?;
        let Some((reader, source)) = read else { return Err(ManifestError::Changed { name }) };
        let again = Self::from_reader(reader, &name, &options)?;
        Ok(Self { seen_ids: seen_ids.conflicts_alone(), source, ..again })
    }

    /// The header as in the file.
    pub fn header(&self) -> &ByteRecord {
        &self.header
    }

    /// The next row, or `None` at the end of the file. Skips duplicates and blank lines.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed by the time its end is reached. The rows that were
    /// returned before are then incomplete.
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

    /// The totals. Complete once [`Manifest::next_row`] has returned `None`.
    pub fn finish(self) -> Totals {
        self.finish_with_questions().0
    }

    /// The totals of [`Manifest::finish`], and the questions of the manifest.
    pub fn finish_with_questions(self) -> (Totals, IdSet) {
        let ManifestOptions { sdkappid, status, .. } = self.options;
        let foreign = self.warnings.of(WarningKind::Foreign);
        let foreign = foreign.map(|(rows, example)| (rows, example.to_owned()));
        let totals = Totals {
            digest: self.digest.name(&self.options),
            other_app_ids: foreign.as_ref().map_or(0, |(rows, _)| *rows),
            other_app_example: foreign.map(|(_, example)| example),
            warnings: self.warnings.finish(sdkappid, status),
            ..self.totals
        };
        (totals, self.seen_ids.into_id_set())
    }

    /// The job of the current record.
    fn read_job(&mut self, line: u64) -> Result<NewJob, FieldError> {
        let (has, wants) = (self.record.len(), self.header.len());
        if !self.has_its_fields() {
            let has = counted(has as u64, "field");
            return Err(FieldError::whole(format!("has {has}, the header has {wants}")));
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

    /// Whether the current record has as many fields as the header. Spreadsheets omit the delimiters of empty
    /// last columns, and other programs end each row with a delimiter.
    fn has_its_fields(&self) -> bool {
        let (has, wants) = (self.record.len(), self.header.len());
        let status = self.columns.status.filter(|_| self.options.status.is_none());
        let last = self.columns.id.max(status.unwrap_or_default());
        let surplus = self.record.get(wants).unwrap_or_default();
        if has > wants { has == wants + 1 && surplus.trim_ascii().is_empty() } else { has > last }
    }

    /// Compares a job with the earlier ones. `None` for a duplicate.
    fn place(&mut self, job: NewJob) -> Result<Option<Row>, FieldError> {
        let earlier = match self.seen_ids.insert(&job) {
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
            self.seen_ids.replace(&job);
            self.totals.duplicates += 1;
            self.totals.by_status[earlier.status as usize] -= 1;
            self.totals.by_status[job.status as usize] += 1;
            return Ok(Some(Row::Replace(job)));
        }
        let lines = self.seen_ids.set_aside(&job);
        self.totals.good -= 1;
        self.totals.bad += 1;
        self.totals.by_status[earlier.status as usize] -= 1;
        let flaw = self.conflict(&lines);
        Ok(Some(Row::Conflict(self.refuse(job.line, flaw), job.question_id)))
    }

    fn conflict(&self, lines: &str) -> FieldError {
        let reason = format!(
            "{lines}: keep one of them, or decide for all rows with --on-conflict first or last"
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

/// The first record with text, after the line that sets the delimiter, if any. Invalid quotes are an error,
/// because the record may then contain rows.
fn read_header(
    name: &str,
    records: &mut Records,
    mut is_after_delimiter: bool,
) -> Result<ByteRecord, ManifestError> {
    let mut header = ByteRecord::new();
    while let Some(ReadRecord { line, flaw }) = records
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

fn parse_status(field: &[u8]) -> Result<TargetStatus, String> {
    std::str::from_utf8(field).map_err(|_| "is not UTF-8 text".to_owned())?.trim().parse()
}
