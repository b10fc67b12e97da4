//! Where a run that goes on is shown: a bar with some lines on a terminal, redrawn in place;
//! a line every 30 s elsewhere; nothing where quiet was asked for.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use super::view::View;
use crate::domain::clock::Moment;

/// How often a terminal is drawn anew although nothing has happened: waits count down.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Terminals that are narrower get a short bar.
const WIDE: usize = 60;

/// See the head of this file.
#[derive(Debug)]
pub struct Board {
    out: Output,
    bar: ProgressBar,
    is_terminal: bool,
    next_line: Moment,
    /// How wide the terminal was when it was drawn last.
    width: Option<usize>,
}

impl Board {
    /// An empty one; the first line comes half a minute after `now`.
    pub fn new(out: &Output, now: Moment) -> Self {
        let is_terminal = out.has_terminal();
        // Drawn from the first view on: one without figures would say that all is done.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        Self { out: out.clone(), bar, is_terminal, next_line: now + LINE_EVERY, width: None }
    }

    /// The same, with its first line at once: of a run that may be half done.
    #[must_use]
    pub fn at_once(self, now: Moment) -> Self {
        Self { next_line: now, ..self }
    }

    /// When it wants to show something again at the latest.
    pub fn next(&self, now: Moment) -> Moment {
        if self.is_terminal { now + DRAW_EVERY } else { self.next_line }
    }

    /// Shows `view`, if it is time.
    pub fn show(&mut self, view: &View, now: Moment) {
        if !self.is_terminal {
            if now >= self.next_line {
                self.next_line = now + LINE_EVERY;
                self.out.say(&view.line());
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
            let bar = if width < WIDE { "[{bar:10}]" } else { "[{bar:30}]" };
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

    /// Takes it away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
