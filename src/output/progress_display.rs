//! The progress display of a run: on a terminal a bar with a few lines, redrawn in place; elsewhere
//! one line every 30 s; nothing with `--quiet`.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use super::run_view::RunView;
use crate::domain::clock::Moment;

/// How often a terminal is redrawn without an event: waits count down.
const REDRAW_EVERY: Duration = Duration::from_millis(250);
/// How often a line is printed without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// A narrower terminal gets a short bar.
const WIDE_COLUMNS: usize = 60;

/// The progress display of one run.
#[derive(Debug)]
pub struct ProgressDisplay {
    out: Output,
    bar: ProgressBar,
    is_terminal: bool,
    next_line: Moment,
    /// The width of the terminal at the last redraw.
    width: Option<usize>,
}

impl ProgressDisplay {
    /// An empty display; without a terminal the first line comes after `LINE_EVERY`.
    pub fn new(out: &Output, now: Moment) -> Self {
        let is_terminal = out.has_terminal();
        // Hidden until the first view: an empty bar would show 100 %.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        Self { out: out.clone(), bar, is_terminal, next_line: now + LINE_EVERY, width: None }
    }

    /// Prints the first line immediately, for a run that began earlier.
    #[must_use]
    pub fn at_once(self, now: Moment) -> Self {
        Self { next_line: now, ..self }
    }

    /// When to call [`ProgressDisplay::show`] again at the latest.
    pub fn next(&self, now: Moment) -> Moment {
        if self.is_terminal { now + REDRAW_EVERY } else { self.next_line }
    }

    /// Shows `view`, if it is due.
    pub fn show(&mut self, view: &RunView, now: Moment) {
        if !self.is_terminal {
            if now >= self.next_line {
                self.next_line = now + LINE_EVERY;
                self.out.info(&view.line());
            }
            return;
        }
        if self.out.is_quiet() {
            return;
        }
        let is_first = self.width.is_none();
        let width = Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns));
        if self.width != Some(width) {
            self.width = Some(width);
            let bar = if width < WIDE_COLUMNS { "[{bar:10}]" } else { "[{bar:30}]" };
            let template = format!("{bar} {{percent}} %  {{pos}}/{{len}}\n{{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
        }
        self.bar.set_length(view.total);
        self.bar.set_position(view.done);
        self.bar.set_message(view.lines(width).join("\n"));
        if is_first {
            self.bar = self.out.bars.add(self.bar.clone());
        }
    }

    /// Removes the display.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
