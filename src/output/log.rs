//! The log: events as lines of text or JSON, on stderr or in a file.
//!
//! A line that cannot be written is counted and dropped, because a log must not end the run. A JSON log and a
//! log file also contain the messages to the user.

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
use super::stdio::BlockingWriter;
use crate::util::atomic_file::PRIVATE;
use crate::util::escape::{path_text, visible, visible_json};

/// The target of messages to the user, which no log filter suppresses.
const MESSAGE_TARGET: &str = "deskbatch::talk";

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Info,
    Warn,
    Error,
}

/// The format and the destination of the log.
#[derive(Debug, Clone, Default)]
pub struct LogTarget {
    /// One JSON object per line instead of text.
    pub json: bool,
    /// The file to append to; `None`: stderr.
    pub file: Option<PathBuf>,
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error(
        "log: {filter}: {reason}: use error, warn, info, debug or trace, or a filter, e.g. deskbatch=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// The parser's error.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("cannot write {path}")]
    File {
        /// Its path.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

/// The number of lines that could not be written, and the first reason.
#[derive(Debug, Default)]
pub(super) struct LostLines(Mutex<(u64, String)>);

impl LostLines {
    /// Counts a line unless it was `written`.
    pub(super) fn note(&self, to: &str, written: io::Result<()>) {
        let Err(error) = written else { return };
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.0 == 0 {
            lost.1 = format!("{to}: {error}");
        }
        lost.0 += 1;
    }

    /// Takes the number of lines and the first reason, and resets both.
    pub(super) fn take(&self) -> Option<(u64, String)> {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lost.0 > 0).then(|| std::mem::take(&mut *lost))
    }
}

/// A started log.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) json: bool,
    file: Option<(Arc<File>, Arc<str>)>,
}

impl Log {
    /// Whether stderr contains only JSON.
    pub(super) fn has_stderr_alone(&self) -> bool {
        self.json && self.file.is_none()
    }

    /// Whether the log is a file, which gets messages in addition to stderr.
    pub(super) fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// Logs a message to the user.
    pub(super) fn message(&self, severity: Severity, text: &str, lost: &LostLines) {
        match (&self.file, self.json) {
            (Some((file, name)), false) => {
                lost.note(name, (&**file).write_all(format!("{text}\n").as_bytes()));
            }
            _ => match severity {
                Severity::Info => tracing::info!(target: MESSAGE_TARGET, "{text}"),
                Severity::Warn => tracing::warn!(target: MESSAGE_TARGET, "{text}"),
                Severity::Error => tracing::error!(target: MESSAGE_TARGET, "{text}"),
            },
        }
    }
}

impl Output {
    /// Starts the log with `filter`.
    ///
    /// # Errors
    /// On an invalid filter, or when the file cannot be opened.
    pub fn with_log(mut self, filter: &str, target: &LogTarget) -> Result<Self, LogError> {
        let filter = EnvFilter::try_new(filter)
            .map_err(|e| LogError::Filter { filter: filter.to_owned(), reason: e.to_string() })?;
        let file = target.file.as_deref().map(open).transpose()?;
        let is_coloured = file.is_none() && self.has_colours();
        let log = Log { json: target.json, file };
        self.log = Some(log.clone());
        let writer = LogWriter { out: self.clone(), is_coloured };
        // tracing would print an error of a lost line to stderr, and panic if that fails too.
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_ansi(is_coloured)
            .log_internal_errors(false);
        let filter = filter.or(Targets::new().with_target(MESSAGE_TARGET, LevelFilter::TRACE));
        let subscriber = tracing_subscriber::registry();
        if log.json {
            subscriber.with(lines.json().with_filter(filter)).init();
            log_panics(log, Arc::clone(&self.lost));
        } else {
            subscriber.with(lines.with_filter(filter)).init();
        }
        Ok(self)
    }
}

/// Opens the log file for appending; a new one is private.
fn open(path: &Path) -> Result<(Arc<File>, Arc<str>), LogError> {
    let name = path_text(path);
    match OpenOptions::new().append(true).create(true).mode(PRIVATE).open(path) {
        Ok(file) => Ok((Arc::new(file), name.into())),
        Err(source) => Err(LogError::File { path: name, source }),
    }
}

/// Logs panics, because a JSON log on stderr must contain only JSON.
fn log_panics(log: Log, lost: Arc<LostLines>) {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log.message(Severity::Error, &format!("internal error: {panic}; please report it"), &lost);
        if !log.has_stderr_alone() {
            default_hook(panic);
        }
    }));
}

/// Writes complete lines to the log.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    out: Output,
    is_coloured: bool,
}

impl LogWriter {
    fn to_stderr(&self, text: &str) {
        let written = BlockingWriter(io::stderr()).write_all(text.as_bytes());
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
    /// Called once per line. Never fails: see the module's documentation.
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
            // No progress display is visible then. Suspending it could deadlock during a panic inside the
            // display.
            None if log.json => self.to_stderr(&text),
            None => self.out.bars.suspend(|| self.to_stderr(&text)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `line` with escaped contents and a line end, so that a field cannot forge another line. Keeps the
/// colours of the log itself.
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
    fn log_line_is_escaped_and_keeps_colours() {
        let line = "\u{1b}[32m INFO\u{1b}[0m a\nb\u{1b}[2Jc";
        assert_eq!(one_line(line, true), "\u{1b}[32m INFO\u{1b}[0m a\\u{a}b\\u{1b}[2Jc\n");
        assert_eq!(one_line("a\u{1b}[1mb", false), "a\\u{1b}[1mb\n");
    }

    #[test]
    fn lost_lines_are_counted_with_first_reason() {
        let lost = LostLines::default();
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
