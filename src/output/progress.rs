//! Progress of a run, from its events: a bar on a terminal, a line every 30 s elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Output;
use super::summary::range_text;
use crate::clock::{Clock, Moment};
use crate::forecast::Course;
use crate::gate::ClosedFor;
use crate::runner::{Event, Totals};
use crate::verdict::Verdict;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Shows `events` until the run ends. `chunk` jobs at most in a request and the limit of
/// `rate` requests a second are for the time that is left.
pub async fn follow<C: Clock>(
    out: Output,
    clock: C,
    mut events: Receiver<Event>,
    chunk: usize,
    rate: f64,
) {
    let bar = out.bars.add(ProgressBar::new(0));
    if out.is_quiet() || !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut progress = Progress::new(clock.now(), chunk, rate);
    let mut next_line = clock.now() + LINE_EVERY;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(Event::Ended { .. }) | Err(RecvError::Closed) => break,
                Ok(event) => progress.take(&event, clock.now()),
                // Behind: the next event brings the whole figures.
                Err(RecvError::Lagged(_)) => continue,
            },
            () = clock.sleep_until(next_line) => {
                next_line = next_line + LINE_EVERY;
                if !io::stderr().is_terminal() {
                    out.say(&progress.line(clock.now()));
                }
            }
        }
        bar.set_length(progress.open);
        bar.set_position(progress.totals.done());
        bar.set_message(progress.message(clock.now()));
    }
    bar.finish_and_clear();
}

/// What is known of the run.
#[derive(Debug)]
struct Progress {
    began: Moment,
    chunk: usize,
    open: u64,
    totals: Totals,
    /// How it went so far, for the time that is left.
    course: Course,
    /// What the run is waiting for, if it is.
    waiting: Option<String>,
}

impl Progress {
    fn new(began: Moment, chunk: usize, rate: f64) -> Self {
        let course = Course::new(rate);
        Self { began, chunk, open: 0, totals: Totals::default(), course, waiting: None }
    }

    fn take(&mut self, event: &Event, now: Moment) {
        let at = now.since(self.began);
        match event {
            Event::Began { open, .. } => {
                self.open = *open;
                self.began = now;
            }
            Event::Left { .. } => self.waiting = None,
            Event::Settled { verdict, latency, totals, .. } => {
                self.totals = *totals;
                let through = matches!(verdict, Verdict::Applied | Verdict::Rejected);
                self.course.answered(at, *latency, through, totals.succeeded, totals.failed);
                // An import may have added jobs since the run began.
                self.open = self.open.max(totals.done());
            }
            Event::Closed { why, wait } => {
                self.course.closed(at);
                let why = match why {
                    ClosedFor::Frequency => "the service asked to slow down",
                    ClosedFor::Outage => "nothing gets through",
                };
                self.waiting = Some(format!("waiting {:.1} s: {why}", wait.as_secs_f64()));
            }
            Event::Opened => {
                self.course.opened(at);
                self.waiting = None;
            }
            Event::Stopping { in_flight } => {
                self.waiting = Some(format!("stopping: {in_flight} requests still out"));
            }
            Event::Ended { .. } => {}
        }
    }

    fn message(&self, now: Moment) -> String {
        let mut text = format!("{} failed", self.totals.failed);
        let seconds = now.since(self.began).as_secs_f64().max(0.001);
        #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
        let rate = self.totals.requests as f64 / seconds;
        let _ = write!(text, ", {rate:.1}/s");
        if self.totals.throttled > 0 {
            let _ = write!(text, ", {} too fast", self.totals.throttled);
        }
        match &self.waiting {
            Some(waiting) => {
                let _ = write!(text, ", {waiting}");
            }
            None => {
                let left = self.open.saturating_sub(self.totals.done());
                let rest = self.course.forecast([left, 0, 0], self.chunk);
                let _ = write!(text, ", {} left", range_text(&rest.time));
            }
        }
        text
    }

    fn line(&self, now: Moment) -> String {
        format!("{} of {} done, {}", self.totals.done(), self.open, self.message(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(totals: Totals) -> Event {
        let (verdict, latency) = (Verdict::Applied, Duration::from_millis(100));
        Event::Settled { request: 1, verdict, latency, totals }
    }

    #[test]
    fn a_line_says_what_is_done_and_what_is_waited_for() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut progress = Progress::new(at(0), 100, 5.0);
        progress.take(&Event::Began { run: 1, open: 3_000, orphans: 0 }, at(0));
        let totals = Totals { requests: 10, succeeded: 900, failed: 2, ..Totals::default() };
        progress.take(&settled(totals), at(2));
        assert_eq!(progress.line(at(2)), "902 of 3000 done, 2 failed, 5.0/s, 7 to 40 s left");
        let closed =
            Event::Closed { why: ClosedFor::Frequency, wait: Duration::from_millis(2_140) };
        progress.take(&closed, at(2));
        assert_eq!(
            progress.line(at(2)),
            "902 of 3000 done, 2 failed, 5.0/s, waiting 2.1 s: the service asked to slow down"
        );
    }

    #[test]
    fn what_is_left_is_told_by_slots_and_not_by_what_chunks_would_take() {
        let slot = |n| Moment(Duration::from_millis(n * 204));
        let mut progress = Progress::new(slot(0), 100, 5.0);
        progress.take(&Event::Began { run: 1, open: 20_050, orphans: 0 }, slot(0));
        // Every eighth answer finds a bad one: 25 jobs a request, where a chunk has 100.
        for answer in 1..=400 {
            let (succeeded, failed) = (answer * 25, answer / 8);
            let totals = Totals { requests: answer, succeeded, failed, ..Totals::default() };
            progress.take(&settled(totals), slot(answer));
        }
        let message = progress.message(slot(400));
        assert_eq!(message, "50 failed, 4.9/s, 56 s to 2 min left");
        // The gate is shut for as long again: slots are as far apart as they were, but the
        // gate may shut once more.
        let shut = Event::Closed { why: ClosedFor::Outage, wait: Duration::from_secs(80) };
        progress.take(&shut, slot(400));
        progress.take(&Event::Opened, slot(800));
        let message = progress.message(slot(800));
        assert_eq!(message, "50 failed, 2.5/s, 56 s to 7 min left");
    }
}
