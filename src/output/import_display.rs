//! The progress display of an import: on a terminal a bar of the bytes read, elsewhere one line every
//! 30 s; rows only if the size of the input is unknown. A fast import shows nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::domain::clock::Moment;
use crate::util::count::counted;

/// How often a terminal is redrawn, and the delay before the first time.
const REDRAW_EVERY: Duration = Duration::from_millis(500);
/// How often a line is printed without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
const MIB: f64 = 1_048_576.0;

/// The progress of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportProgress {
    /// Reading the manifest.
    Reading {
        /// Good rows so far.
        rows: u64,
        /// Bytes read so far.
        bytes: u64,
        /// The size of the input, if known.
        total: Option<u64>,
    },
    /// Writing to the queue.
    Writing {
        /// Jobs in total.
        rows: u64,
    },
}

impl ImportProgress {
    /// One line of text.
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn line(self, name: &str) -> String {
        let mib = |bytes: u64| bytes as f64 / MIB;
        match self {
            Self::Reading { rows, bytes, total: Some(total) } => {
                format!(
                    "reading {name}: {:.1} of {:.1} MiB, {}",
                    mib(bytes),
                    mib(total),
                    counted(rows, "row")
                )
            }
            Self::Reading { rows, bytes, total: None } => {
                format!("reading {name}: {}, {:.1} MiB so far", counted(rows, "row"), mib(bytes))
            }
            Self::Writing { rows } => {
                format!("writing {} of {name} to the queue", counted(rows, "job"))
            }
        }
    }
}

/// The progress display of one import.
#[derive(Debug)]
pub struct ImportDisplay {
    out: Output,
    name: String,
    bar: Option<ProgressBar>,
    is_terminal: bool,
    next: Moment,
}

impl ImportDisplay {
    /// A display for the manifest `name`.
    pub fn new(out: &Output, name: String, now: Moment) -> Self {
        let is_terminal = out.has_terminal();
        let next = now + if is_terminal { REDRAW_EVERY } else { LINE_EVERY };
        Self { out: out.clone(), name, bar: None, is_terminal, next }
    }

    /// When to call [`ImportDisplay::show`] again.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Shows `progress`, if it is due.
    pub fn show(&mut self, progress: ImportProgress, now: Moment) {
        if now < self.next {
            return;
        }
        self.next = now + if self.is_terminal { REDRAW_EVERY } else { LINE_EVERY };
        let line = progress.line(&self.name);
        if !self.is_terminal {
            self.out.info(&line);
            return;
        }
        if self.out.is_quiet() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
            self.out.bars.add(bar)
        });
        let template = match progress {
            ImportProgress::Reading { bytes, total: Some(total), .. } => {
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

impl Drop for ImportDisplay {
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
    fn import_line_has_bytes_if_size_is_known() {
        let mib = |n: u64| n * 1_048_576;
        let progress =
            ImportProgress::Reading { rows: 7_000, bytes: mib(3) / 2, total: Some(mib(60)) };
        assert_eq!(progress.line("jobs.csv"), "reading jobs.csv: 1.5 of 60.0 MiB, 7000 rows");
        let progress = ImportProgress::Reading { rows: 7_000, bytes: mib(3), total: None };
        assert_eq!(progress.line("stdin"), "reading stdin: 7000 rows, 3.0 MiB so far");
        assert_eq!(
            ImportProgress::Writing { rows: 9 }.line("x"),
            "writing 9 jobs of x to the queue"
        );
    }
}
