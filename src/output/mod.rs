//! The only place that prints. stdout is data, stderr is talk.
//!
//! A reader that goes away in the middle (`| head`) is no error. Log lines and progress
//! share stderr without tearing each other.

mod board;
mod plan;
mod progress;
mod reading;
mod summary;
mod view;

use std::io::{self, BufRead as _, IsTerminal as _, Write};

use indicatif::MultiProgress;
use secrecy::SecretString;
use tracing_subscriber::fmt::MakeWriter;

use crate::text::{visible_json, visible_lines};

pub use board::Board;
pub use plan::plan_text;
pub use progress::{Recent, follow};
pub use reading::{Reading, ReadingBoard};
pub use summary::{RunSummaryText, counts_text, range_text};
pub use view::{Doing, View};

/// Where text goes.
#[derive(Debug, Clone)]
pub struct Output {
    quiet: bool,
    bars: MultiProgress,
}

impl Output {
    /// An output; a quiet one passes on only what must be said.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bars: MultiProgress::new() }
    }

    /// Whether only what must be said is passed on.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The same of JSON: for a program it stays what it was.
    ///
    /// # Errors
    /// As below.
    pub fn json(&self, text: &str) -> io::Result<()> {
        self.bytes(visible_json(text).as_bytes())
    }

    /// Data, to stdout: lines for people, in which names of strangers may stand.
    ///
    /// # Errors
    /// When stdout cannot be written, other than because its reader has gone.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.bytes(visible_lines(text).as_bytes())
    }

    /// The same of bytes that are passed on as they are.
    ///
    /// # Errors
    /// As above.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        ignore_broken_pipe(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// Talk: what went well, unless quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.must_say(text);
        }
    }

    /// Talk that is wanted even when quiet.
    pub fn must_say(&self, text: &str) {
        self.bars.suspend(|| {
            // Nobody is left to be told if stderr is gone.
            let _ = writeln!(io::stderr().lock(), "{}", visible_lines(text));
        });
    }

    /// Whether talk may be coloured: on a terminal alone, and not where `NO_COLOR` says anything.
    pub fn has_colours(&self) -> bool {
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
    }

    /// Whether somebody is there to be asked.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question that only an explicit yes answers with yes.
    pub fn ask(&self, question: &str) -> bool {
        let _ = write!(io::stderr().lock(), "{} [y/N] ", visible_lines(question));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }

    /// Asks for a line; `None` at the end of the input.
    pub fn ask_line(&self, question: &str) -> Option<String> {
        let _ = write!(io::stderr().lock(), "{question} ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        matches!(read, Ok(1..)).then(|| answer.trim().to_owned())
    }

    /// The same without showing what is typed.
    pub fn ask_secret(&self, question: &str) -> Option<SecretString> {
        let _ = write!(io::stderr().lock(), "{question} ");
        rpassword::read_password().ok().map(|answer| SecretString::from(answer.trim()))
    }

    /// A buffered stdout for long data.
    pub fn stream(&self) -> impl Write + use<> {
        io::BufWriter::new(io::stdout())
    }
}

/// A reader that has gone has had enough: that is a success.
///
/// # Errors
/// Every other error.
pub fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Log lines go to stderr, around a progress bar that may be there.
impl<'a> MakeWriter<'a> for Output {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter(self.bars.clone())
    }
}

/// Writes whole log lines to stderr.
#[derive(Debug)]
pub struct LogWriter(MultiProgress);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
