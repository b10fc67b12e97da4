//! How far an import is: a bar of the file's bytes on a terminal, a line every 30 s elsewhere;
//! rows alone where nobody knows how much is to come. What is done at once shows nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::domain::clock::Moment;

/// How often a terminal is drawn anew, and how long it shows nothing at first.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// A mebibyte.
const MIB: f64 = 1_048_576.0;

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It reads.
    Rows {
        /// Good rows so far.
        rows: u64,
        /// Bytes read so far.
        bytes: u64,
        /// All that there are, if that is known.
        total: Option<u64>,
    },
    /// It has read everything and writes.
    Writing {
        /// So many jobs.
        rows: u64,
    },
}

impl Reading {
    /// In one line.
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn line(self, name: &str) -> String {
        let mib = |bytes: u64| bytes as f64 / MIB;
        match self {
            Self::Rows { rows, bytes, total: Some(total) } => {
                format!("reading {name}: {:.1} of {:.1} MiB, {rows} rows", mib(bytes), mib(total))
            }
            Self::Rows { rows, bytes, total: None } => {
                format!("reading {name}: {rows} rows, {:.1} MiB so far", mib(bytes))
            }
            Self::Writing { rows } => format!("writing {rows} jobs of {name} to the queue"),
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct ReadingBoard {
    out: Output,
    name: String,
    bar: Option<ProgressBar>,
    is_terminal: bool,
    next: Moment,
}

impl ReadingBoard {
    /// An empty one for what is called `name`.
    pub fn new(out: &Output, name: String, now: Moment) -> Self {
        let is_terminal = out.has_terminal();
        let next = now + if is_terminal { DRAW_EVERY } else { LINE_EVERY };
        Self { out: out.clone(), name, bar: None, is_terminal, next }
    }

    /// When it wants to show something again.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Shows `reading`, if it is time.
    pub fn show(&mut self, reading: Reading, now: Moment) {
        if now < self.next {
            return;
        }
        self.next = now + if self.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        let line = reading.line(&self.name);
        if !self.is_terminal {
            self.out.say(&line);
            return;
        }
        if self.out.is_quiet() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
            self.out.bars.add(bar)
        });
        let template = match reading {
            Reading::Rows { bytes, total: Some(total), .. } => {
                bar.set_length(total);
                bar.set_position(bytes);
                "[{bar:30}] {percent} %\n{msg}"
            }
            _ => "{msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(line);
    }
}

impl Drop for ReadingBoard {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_told_by_bytes_where_their_number_is_known_and_by_rows_elsewhere() {
        let mib = |n: u64| n * 1_048_576;
        let reading = Reading::Rows { rows: 7_000, bytes: mib(3) / 2, total: Some(mib(60)) };
        assert_eq!(reading.line("jobs.csv"), "reading jobs.csv: 1.5 of 60.0 MiB, 7000 rows");
        let reading = Reading::Rows { rows: 7_000, bytes: mib(3), total: None };
        assert_eq!(reading.line("stdin"), "reading stdin: 7000 rows, 3.0 MiB so far");
        assert_eq!(Reading::Writing { rows: 9 }.line("x"), "writing 9 jobs of x to the queue");
    }
}
