//! The invalid rows of a manifest: the first few for the error message, all of them for `--rejects`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use crate::cli::ManifestArgs;
use crate::commands::error::CommandError;
use crate::commands::overwrite::{OutputKind, must_be_no_source, must_be_replaceable};
use crate::manifest::{Rejects, RowError, TooManyRejects, Totals};
use crate::util::atomic_file::{AtomicFile, PRIVATE};
use crate::util::count::{choose, counted, counted_as};
use crate::util::escape::path_text;

/// How many invalid rows are shown.
const SHOWN_MAX: usize = 20;

/// The invalid rows read so far.
pub(super) struct BadRows {
    shown: Vec<String>,
    rejects: Option<PathBuf>,
    /// Whether `rejects` is written: not in a dry run.
    writes: bool,
    writer: Option<Rejects<AtomicFile>>,
}

/// A complete `--rejects` file that has no name yet.
pub(super) struct WrittenRejects {
    file: AtomicFile,
    path: PathBuf,
    rows: u64,
}

impl BadRows {
    /// Collects invalid rows for `--rejects`, which must be none of the `sources`; a dry run does not
    /// write that file.
    pub(super) fn new(
        sources: &[(PathBuf, &str)],
        args: &ManifestArgs,
        writes: bool,
    ) -> Result<Self, CommandError> {
        if let Some(path) = &args.rejects {
            must_be_no_source("--rejects", path, sources)?;
        }
        Ok(Self { shown: Vec::new(), rejects: args.rejects.clone(), writes, writer: None })
    }

    /// Whether invalid rows are skipped instead of failing the import.
    pub(super) fn are_left_out(&self) -> bool {
        self.rejects.is_some()
    }

    /// Removes all of them, for a second pass over the manifest.
    pub(super) fn clear(&mut self) {
        (self.shown, self.writer) = (Vec::new(), None);
    }

    pub(super) fn take(&mut self, header: &ByteRecord, row: &RowError) -> Result<(), CommandError> {
        let Some(path) = self.rejects.as_deref().filter(|_| self.writes) else {
            if self.shown.len() < SHOWN_MAX {
                self.shown.push(row.to_string());
            }
            return Ok(());
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = AtomicFile::create_spooled(path, PRIVATE).map_err(write_error(path))?;
                self.writer.insert(Rejects::new(file, header).map_err(write_error(path))?)
            }
        };
        writer.write(row).map_err(write_error(path))
    }

    /// The rows to show and the complete `--rejects` file.
    ///
    /// # Errors
    /// When there are invalid rows and they are not skipped.
    pub(super) fn finish(
        self,
        read: &Totals,
        file: &Path,
    ) -> Result<(Vec<String>, Option<WrittenRejects>), CommandError> {
        if self.rejects.is_some() || read.bad == 0 {
            let (Some(writer), Some(path)) = (self.writer, self.rejects) else {
                return Ok((self.shown, None));
            };
            let (file, rows) = writer.finish().map_err(write_error(&path))?;
            return Ok((self.shown, Some(WrittenRejects { file, path, rows })));
        }
        let mut text = format!(
            "{}: {} of {} {} invalid. Nothing was imported.\n",
            path_text(file),
            read.bad,
            counted(read.rows, "row"),
            choose(read.bad, "is", "are")
        );
        for row in &self.shown {
            let _ = writeln!(text, "  {row}");
        }
        let more = read.bad.saturating_sub(self.shown.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
        let _ = write!(
            text,
            "Fix {}, or use --rejects FILE to import the valid rows and write the others to FILE.",
            choose(read.bad, "it", "them")
        );
        Err(CommandError::Usage(text))
    }
}

impl WrittenRejects {
    /// Gives the file its name and returns the message about it. Called before the valid rows are
    /// committed, so that no invalid row is lost.
    pub(super) fn publish(self, overwrite: bool) -> Result<String, CommandError> {
        let Self { file, path, rows } = self;
        must_be_replaceable("--rejects", &path, OutputKind::Rejects, overwrite).map_err(
            |e| match e {
                CommandError::Usage(text) => {
                    CommandError::Usage(format!("{text} Nothing was imported."))
                }
                other => other,
            },
        )?;
        file.finish().map_err(CommandError::output(&path))?;
        Ok(format!(
            "{} skipped and written to {}. Fix and import {}.",
            counted_as(rows, "invalid row was", "invalid rows were"),
            path_text(&path),
            choose(rows, "it", "them")
        ))
    }
}

/// Maps an error of writing the rejects: too many of them, or a failed write.
fn write_error(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |e| match e.get_ref().and_then(|e| e.downcast_ref::<TooManyRejects>()) {
        Some(limit) => CommandError::Usage(format!(
            "--rejects: {limit}. Nothing was imported. Is this the right file?"
        )),
        None => CommandError::output(path)(e),
    }
}
