//! The bad rows of a manifest: the first few to be shown, all of them to be written where they
//! are wanted, once the rest is imported.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::CommandError;
use super::replace::{Kind, must_be_no_source, must_be_replaceable};
use super::whole_file::WholeFile;
use crate::cli::ManifestArgs;
use crate::manifest::{Rejects, RowError, TooManyRejects, Totals};
use crate::text::path_text;

/// How many bad rows are shown.
const SHOWN_MAX: usize = 20;

/// A manifest may hold anything, so nobody else reads its rows.
const MODE: u32 = 0o600;

/// The bad rows that were read.
pub(super) struct BadRows {
    shown: Vec<String>,
    rejects: Option<PathBuf>,
    writes: bool,
    writer: Option<Rejects<WholeFile>>,
}

/// Rejects that are whole and have no name yet.
pub(super) struct WrittenRejects {
    file: WholeFile,
    path: PathBuf,
    rows: u64,
}

impl BadRows {
    /// None yet. They are written to `--rejects`, which must be none of the `sources`, if the
    /// import `writes` and does not only look.
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

    /// Whether bad rows are left out, and do not stop the import.
    pub(super) fn are_left_out(&self) -> bool {
        self.rejects.is_some()
    }

    /// Forgets all of them.
    pub(super) fn begin_again(&mut self) {
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
                let file = WholeFile::create_held(path, MODE).map_err(unwritten(path))?;
                self.writer.insert(Rejects::new(file, header).map_err(unwritten(path))?)
            }
        };
        writer.write(row).map_err(unwritten(path))
    }

    /// The rows that are to be shown and those that are written; an error where bad rows stop
    /// the import.
    pub(super) fn finish(
        self,
        read: &Totals,
        file: &Path,
    ) -> Result<(Vec<String>, Option<WrittenRejects>), CommandError> {
        if self.rejects.is_some() || read.bad == 0 {
            let (Some(writer), Some(path)) = (self.writer, self.rejects) else {
                return Ok((self.shown, None));
            };
            let (file, rows) = writer.finish().map_err(unwritten(&path))?;
            return Ok((self.shown, Some(WrittenRejects { file, path, rows })));
        }
        let mut text = format!(
            "{}: {} of {} rows are bad: nothing was imported\n",
            path_text(file),
            read.bad,
            read.rows
        );
        for row in &self.shown {
            let _ = writeln!(text, "  {row}");
        }
        let more = read.bad.saturating_sub(self.shown.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
        text.push_str(
            "mend them, or import the good ones with --rejects FILE, which gets the bad ones",
        );
        Err(CommandError::Wrong(text))
    }
}

impl WrittenRejects {
    /// Gives them their name, before the rest is imported: no bad row is lost. What is said of it.
    pub(super) fn publish(self, overwrite: bool) -> Result<String, CommandError> {
        let Self { file, path, rows } = self;
        must_be_replaceable("--rejects", &path, Kind::Rejects, overwrite).map_err(|e| match e {
            CommandError::Wrong(text) => {
                CommandError::Wrong(format!("{text}; nothing was imported"))
            }
            other => other,
        })?;
        file.finish().map_err(CommandError::output(&path))?;
        Ok(format!(
            "{rows} bad rows were left out; they are in {}, to be mended and imported",
            path_text(&path)
        ))
    }
}

/// That they cannot be written, or are too many to be written at all.
fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |e| match e.get_ref().and_then(|e| e.downcast_ref::<TooManyRejects>()) {
        Some(limit) => CommandError::Wrong(format!(
            "--rejects: {limit}: nothing was imported; is this the right file?"
        )),
        None => CommandError::output(path)(e),
    }
}
