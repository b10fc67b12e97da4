//! The log: events of the program as lines of text or JSON, on stderr or in a file of its own.
//!
//! A line that cannot be written is counted and passed over: a log must not end the run that it is
//! of. In a log of JSON, or in a file, messages to people are lines too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::Output;
use super::stdio::Patient;
use crate::text::{path_text, visible, visible_json};

/// The target of events that are messages to people: no filter of the log keeps them out.
const TALK: &str = "deskbatch::talk";

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// As it should be.
    Info,
    /// Worth a look.
    Warn,
    /// The command has failed.
    Error,
}

/// How the log is written, and where.
#[derive(Debug, Clone, Default)]
pub struct LogTo {
    /// One JSON object a line; lines of text otherwise.
    pub json: bool,
    /// This file, to its end; stderr if none is named.
    pub file: Option<PathBuf>,
}

/// Why there can be no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter means nothing.
    #[error(
        "log: {filter}: {reason}: use error, warn, info, debug or trace, or a filter as deskbatch=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("{path} cannot be written")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// What became of lines that could not be written.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<(u64, String)>);

impl Lost {
    /// Counts a line unless it was `written`; the first reason is kept.
    pub(super) fn note(&self, to: &str, written: io::Result<()>) {
        let Err(error) = written else { return };
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.0 == 0 {
            lost.1 = format!("{to}: {error}");
        }
        lost.0 += 1;
    }

    /// The number of such lines and where and why, once.
    pub(super) fn take(&self) -> Option<(u64, String)> {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lost.0 > 0).then(|| std::mem::take(&mut *lost))
    }
}

/// A log that has begun.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) json: bool,
    file: Option<(Arc<File>, Arc<str>)>,
}

impl Log {
    /// Whether stderr has nothing but this log.
    pub(super) fn has_stderr_alone(&self) -> bool {
        self.json && self.file.is_none()
    }

    /// Whether messages belong into it as well as on stderr.
    pub(super) fn is_apart(&self) -> bool {
        self.file.is_some()
    }

    /// Takes in a message.
    pub(super) fn tell(&self, grade: Grade, text: &str, lost: &Lost) {
        match (&self.file, self.json) {
            (Some((file, name)), false) => {
                lost.note(name, (&**file).write_all(format!("{text}\n").as_bytes()));
            }
            _ => match grade {
                Grade::Info => tracing::info!(target: TALK, "{text}"),
                Grade::Warn => tracing::warn!(target: TALK, "{text}"),
                Grade::Error => tracing::error!(target: TALK, "{text}"),
            },
        }
    }
}

impl Output {
    /// Begins the log, which gets what `filter` lets through.
    ///
    /// # Errors
    /// When the filter means nothing, or the file cannot be opened.
    pub fn with_log(mut self, filter: &str, to: &LogTo) -> Result<Self, LogError> {
        let filter = EnvFilter::try_new(filter)
            .map_err(|e| LogError::Filter { filter: filter.to_owned(), reason: e.to_string() })?;
        let file = to.file.as_deref().map(open).transpose()?;
        let is_coloured = file.is_none() && self.has_colours();
        let log = Log { json: to.json, file };
        self.log = Some(log.clone());
        let writer = LogWriter { out: self.clone(), is_coloured };
        // That of a line which cannot be written would go to stderr, and end the program there.
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(is_coloured)
            .log_internal_errors(false);
        let lets_through = filter.or(Targets::new().with_target(TALK, LevelFilter::TRACE));
        let subscriber = tracing_subscriber::registry();
        if log.json {
            subscriber.with(lines.json().with_filter(lets_through)).init();
            tell_panics_as_events(log, Arc::clone(&self.lost));
        } else {
            subscriber.with(lines.with_filter(lets_through)).init();
        }
        Ok(self)
    }
}

/// Opens the log at `path` at its end; a new one is its owner's alone.
fn open(path: &Path) -> Result<(Arc<File>, Arc<str>), LogError> {
    let name = path_text(path);
    match OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
        Ok(file) => Ok((Arc::new(file), name.into())),
        Err(source) => Err(LogError::File { path: name, source }),
    }
}

/// A panic is a line like others: stderr has nothing but JSON.
fn tell_panics_as_events(log: Log, lost: Arc<Lost>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log.tell(Grade::Error, &format!("deskbatch: a bug: {panic}"), &lost);
        if !log.has_stderr_alone() {
            before(panic);
        }
    }));
}

/// Writes whole log lines to where the log is.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    out: Output,
    is_coloured: bool,
}

impl LogWriter {
    fn to_stderr(&self, text: &str) {
        let written = Patient(io::stderr()).write_all(text.as_bytes());
        self.out.lost.note("stderr", written);
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &LogWriter {
    /// One line a call. Never fails: see the head of the file.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let Some(log) = &self.out.log else { return Ok(line.len()) };
        let text = if log.json {
            visible_json(&text).into_owned()
        } else {
            one_line(text.trim_end_matches('\n'), self.is_coloured)
        };
        match &log.file {
            Some((file, name)) => {
                self.out.lost.note(name, (&**file).write_all(text.as_bytes()));
            }
            // No bar is drawn there. A bug in the drawing of one must be able to say so.
            None if log.json => self.to_stderr(&text),
            None => self.out.bars.suspend(|| self.to_stderr(&text)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `line` and its end: what a field holds cannot forge another line. Colours are the writer's own
/// and stay.
fn one_line(line: &str, is_coloured: bool) -> String {
    const COLOUR: &str = "\u{1b}[";
    let mut pieces = line.split(COLOUR).enumerate();
    let mut text = String::with_capacity(line.len() + 1);
    for (at, piece) in &mut pieces {
        let is_colour = piece
            .split_once('m')
            .is_some_and(|(numbers, _)| numbers.bytes().all(|b| b.is_ascii_digit() || b == b';'));
        if at > 0 {
            text.push_str(if is_coloured && is_colour { COLOUR } else { "\\u{1b}[" });
        }
        text.push_str(&visible(piece));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_line_is_one_line_and_keeps_its_colours() {
        let line = "\u{1b}[32m INFO\u{1b}[0m a\nb\u{1b}[2Jc";
        assert_eq!(one_line(line, true), "\u{1b}[32m INFO\u{1b}[0m a\\u{a}b\\u{1b}[2Jc\n");
        assert_eq!(one_line("a\u{1b}[1mb", false), "a\\u{1b}[1mb\n");
    }

    #[test]
    fn lost_lines_are_counted_with_the_first_reason() {
        let lost = Lost::default();
        lost.note("a.log", Ok(()));
        assert_eq!(lost.take(), None);
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe] {
            lost.note("a.log", Err(kind.into()));
        }
        let (count, why) = lost.take().unwrap();
        assert!(count == 2 && why.starts_with("a.log: "), "{why}");
        assert_eq!(lost.take(), None);
    }
}
