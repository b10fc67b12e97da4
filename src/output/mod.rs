//! The only place that prints. stdout is data, stderr is talk.
//!
//! A reader that goes away in the middle (`| head`) is no error. Log lines and progress
//! share stderr without tearing each other.

mod board;
mod log;
mod plan;
mod progress;
mod reading;
mod stdio;
mod summary;
mod view;

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::sync::Arc;

use console::Term;
use indicatif::{MultiProgress, ProgressDrawTarget};
use secrecy::SecretString;

use crate::text::{visible_json, visible_lines};

pub use board::Board;
pub use log::{LogError, LogTo};
pub use plan::plan_text;
pub use progress::{Recent, follow};
pub use reading::{Reading, ReadingBoard};
pub use summary::{RunSummaryText, counts_text, range_text};
pub use view::{Doing, View};

use log::{Grade, Log, Lost};
use stdio::{Patient, Unfailing};

/// How often a terminal is drawn at most, in a second.
const DRAWN_PER_S: u8 = 20;

/// Where text goes.
#[derive(Debug, Clone)]
pub struct Output {
    quiet: bool,
    bars: MultiProgress,
    log: Option<Log>,
    /// What could not be written of the talk and of the log.
    lost: Arc<Lost>,
}

impl Output {
    /// An output without a log yet; a quiet one passes on only what must be said.
    pub fn new(quiet: bool) -> Self {
        let terminal = Term::stderr();
        let target = if terminal.is_term() {
            ProgressDrawTarget::term_like_with_hz(Box::new(Unfailing(terminal)), DRAWN_PER_S)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        Self { quiet, bars, log: None, lost: Arc::default() }
    }

    /// Whether only what must be said is passed on.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether stderr is a terminal that shows text.
    fn has_terminal(&self) -> bool {
        io::stderr().is_terminal() && !self.log.as_ref().is_some_and(Log::has_stderr_alone)
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
        ignore_broken_pipe(Patient(io::stdout()).write_all(bytes))
    }

    /// Talk: what went well, unless quiet. A log in a file gets it in any case.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.tell(Grade::Info, text);
        } else if let Some(log) = self.log.as_ref().filter(|log| log.is_apart()) {
            log.tell(Grade::Info, &visible_lines(text), &self.lost);
        }
    }

    /// Talk that is wanted even when quiet.
    pub fn must_say(&self, text: &str) {
        self.tell(Grade::Warn, text);
    }

    /// Talk of a command that failed, wanted even when quiet.
    pub fn fail(&self, text: &str) {
        self.tell(Grade::Error, text);
    }

    fn tell(&self, grade: Grade, text: &str) {
        let text = visible_lines(text);
        if let Some(log) = &self.log {
            if log.json || log.is_apart() {
                log.tell(grade, &text, &self.lost);
            }
            if log.has_stderr_alone() {
                return;
            }
        }
        self.bars.suspend(|| {
            let written = Patient(io::stderr()).write_all(format!("{text}\n").as_bytes());
            self.lost.note("stderr", written);
        });
    }

    /// Says once that lines were lost, if any were; where stderr is what is gone, the log has it.
    pub fn tell_lost(&self) {
        if let Some((count, why)) = self.lost.take() {
            self.must_say(&format!("deskbatch: {count} lines could not be written to {why}"));
        }
    }

    /// Passes on the help, which is data, or what is wrong with the command line; `coloured` is
    /// the same for a terminal.
    ///
    /// # Errors
    /// When the help cannot be written, other than because its reader has gone.
    pub fn usage(&self, plain: &str, coloured: &str, is_error: bool) -> io::Result<()> {
        let pick =
            |is_terminal: bool| if is_terminal && wants_colours() { coloured } else { plain };
        if is_error {
            let text = pick(io::stderr().is_terminal());
            self.lost.note("stderr", Patient(io::stderr()).write_all(text.as_bytes()));
            return Ok(());
        }
        self.bytes(pick(io::stdout().is_terminal()).as_bytes())
    }

    /// Whether talk may be coloured: on a terminal alone, and not where `NO_COLOR` says anything.
    pub fn has_colours(&self) -> bool {
        io::stderr().is_terminal() && wants_colours()
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

    /// A buffered stdout for long data, to be written on a thread of its own.
    pub fn stream(&self) -> impl Write + Send + use<> {
        io::BufWriter::new(Patient(io::stdout()))
    }
}

/// Whether `NO_COLOR` says nothing.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
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
