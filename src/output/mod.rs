//! The only place that prints. Data goes to stdout, messages go to stderr.
//!
//! A broken pipe (`| head`) is not an error. Log lines and the progress display share stderr without
//! corrupting each other.

mod import_display;
mod log;
mod phrases;
mod plan;
mod progress_display;
mod rate_window;
mod run_progress;
mod run_view;
mod secret_line;
mod stdio;
mod summary;

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::sync::Arc;

use console::Term;
use indicatif::{MultiProgress, ProgressDrawTarget};
use secrecy::SecretString;

use crate::util::count::counted;
use crate::util::escape::{visible_json, visible_lines};

pub use import_display::{ImportDisplay, ImportProgress};
pub use log::{LogError, LogTarget};
pub use phrases::{
    confirmed_text, counts_text, in_doubt_text, range_text, recovery_text, requests_text,
};
pub use plan::plan_text;
pub use progress_display::ProgressDisplay;
pub use rate_window::RateWindow;
pub use run_progress::follow;
pub use run_view::{RunActivity, RunView};
pub use summary::RunSummaryText;

use log::{Log, LostLines, Severity};
use stdio::{BlockingWriter, InfallibleTerminal};

/// The most redraws of a terminal per second.
const REDRAWS_PER_S: u8 = 20;

/// The streams and the log of this process.
#[derive(Debug, Clone)]
pub struct Output {
    quiet: bool,
    bars: MultiProgress,
    log: Option<Log>,
    /// Messages and log lines that could not be written.
    lost: Arc<LostLines>,
}

impl Output {
    /// An output without a log. A quiet one suppresses [`Output::info`].
    pub fn new(quiet: bool) -> Self {
        let terminal = Term::stderr();
        let target = if terminal.is_term() {
            ProgressDrawTarget::term_like_with_hz(
                Box::new(InfallibleTerminal(terminal)),
                REDRAWS_PER_S,
            )
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        Self { quiet, bars, log: None, lost: Arc::default() }
    }

    /// Whether info messages are suppressed.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether stderr is a terminal that shows text, not a JSON log.
    fn has_terminal(&self) -> bool {
        io::stderr().is_terminal()
            && !is_dumb_terminal()
            && !self.log.as_ref().is_some_and(Log::has_stderr_alone)
    }

    /// Writes JSON to stdout. Unsafe characters are escaped by JSON's rules.
    ///
    /// # Errors
    /// When stdout cannot be written, except on a broken pipe.
    pub fn json(&self, text: &str) -> io::Result<()> {
        self.bytes(visible_json(text).as_bytes())
    }

    /// Writes text to stdout. Unsafe characters in external text are escaped.
    ///
    /// # Errors
    /// When stdout cannot be written, except on a broken pipe.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.bytes(visible_lines(text).as_bytes())
    }

    /// Writes bytes to stdout unchanged.
    ///
    /// # Errors
    /// When stdout cannot be written, except on a broken pipe.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        ignore_broken_pipe(BlockingWriter(io::stdout()).write_all(bytes))
    }

    /// A message that `--quiet` suppresses. A log file gets it in any case.
    pub fn info(&self, text: &str) {
        if !self.quiet {
            self.print(Severity::Info, text);
        } else if let Some(log) = self.log.as_ref().filter(|log| log.is_in_file()) {
            log.message(Severity::Info, &visible_lines(text), &self.lost);
        }
    }

    /// A message that `--quiet` does not suppress.
    pub fn warn(&self, text: &str) {
        self.print(Severity::Warn, text);
    }

    /// The error of a failed command.
    pub fn error(&self, text: &str) {
        self.print(Severity::Error, text);
    }

    fn print(&self, severity: Severity, text: &str) {
        let text = visible_lines(text);
        if let Some(log) = &self.log {
            if log.json || log.is_in_file() {
                log.message(severity, &text, &self.lost);
            }
            if log.has_stderr_alone() {
                return;
            }
        }
        self.bars.suspend(|| {
            let written = BlockingWriter(io::stderr()).write_all(format!("{text}\n").as_bytes());
            self.lost.note("stderr", written);
        });
    }

    /// Reports lost lines, if there are any; if stderr is the broken stream, the log has the report.
    pub fn report_lost_lines(&self) {
        if let Some((count, why)) = self.lost.take() {
            self.warn(&format!("warning: cannot write to {why}: {} lost", counted(count, "line")));
        }
    }

    /// Writes the help to stdout, or the error of the command line to stderr. A terminal gets `coloured`.
    ///
    /// # Errors
    /// When the help cannot be written, except on a broken pipe.
    pub fn usage(&self, plain: &str, coloured: &str, is_error: bool) -> io::Result<()> {
        let pick =
            |is_terminal: bool| if is_terminal && wants_colours() { coloured } else { plain };
        if is_error {
            let text = pick(io::stderr().is_terminal());
            self.lost.note("stderr", BlockingWriter(io::stderr()).write_all(text.as_bytes()));
            return Ok(());
        }
        self.bytes(pick(io::stdout().is_terminal()).as_bytes())
    }

    /// Whether messages may be coloured: only on a terminal, and not if `NO_COLOR` is set.
    pub fn has_colours(&self) -> bool {
        io::stderr().is_terminal() && wants_colours()
    }

    /// Whether a user can be asked: stdin and stderr are terminals.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question; only an explicit yes counts as yes.
    pub fn ask(&self, question: &str) -> bool {
        let _ = write!(io::stderr().lock(), "{} [y/N] ", visible_lines(question));
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        read.is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
    }

    /// Asks for a line; `None` at the end of the input.
    pub fn ask_line(&self, prompt: &str) -> Option<String> {
        let _ = write!(io::stderr().lock(), "{prompt} ");
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        matches!(read, Ok(1..)).then(|| line.trim().to_owned())
    }

    /// Asks for a line without echo; `None` at the end of the input and on a signal.
    pub fn ask_secret(&self, prompt: &str) -> Option<SecretString> {
        secret_line::read(prompt).map(|line| SecretString::from(line.trim()))
    }

    /// A buffered stdout for long data. Its writes may block, so use it on a separate thread.
    pub fn stream(&self) -> impl Write + Send + use<> {
        io::BufWriter::new(BlockingWriter(io::stdout()))
    }
}

/// `value` as JSON on one line, with its line end.
pub fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value).unwrap_or_default();
    line.push('\n');
    line
}

/// Whether `NO_COLOR` is unset or empty.
fn wants_colours() -> bool {
    !is_dumb_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// Whether the terminal understands no control sequences.
fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Maps a broken pipe to success: the reader has closed the pipe because it needs no more data.
///
/// # Errors
/// Every other error.
pub fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
