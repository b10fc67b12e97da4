//! Progress of a run, from its events: a bar on a terminal, a line every 30 s elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Output;
use super::board::Board;
use super::view::{Doing, View};
use crate::domain::clock::{Clock, Moment};
use crate::domain::verdict::Verdict;
use crate::eta::RunProgress;
use crate::runner::{Event, Totals};

/// Shows `events` until the run ends. `chunk` jobs at most in a request and the limit of
/// `rate` requests a second are for the time that is left.
pub async fn follow<C: Clock>(
    out: Output,
    clock: C,
    mut events: Receiver<Event>,
    chunk: usize,
    rate: f64,
) {
    let mut board = Board::new(&out, clock.now());
    let mut progress = Progress::new(clock.now(), chunk, rate);
    loop {
        let redraw = board.next(clock.now());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(Event::Ended { .. }) | Err(RecvError::Closed) => break,
                Ok(event) => progress.take(&event, clock.now()),
                // Behind: the next event brings the whole figures.
                Err(RecvError::Lagged(_)) => continue,
            },
            () = clock.sleep_until(redraw) => {}
        }
        board.show(&progress.view(clock.now()), clock.now());
    }
    board.clear();
}

/// How many seconds the rate is the mean of.
const RATE_SECONDS: u64 = 10;

/// Requests a second of late.
#[derive(Debug, Default)]
pub struct Recent {
    /// How many requests there had been at the first look in each of the last seconds.
    seen: VecDeque<(Moment, u64)>,
}

impl Recent {
    /// Takes in that `requests` have left until `now`.
    pub fn note(&mut self, now: Moment, requests: u64) {
        let is_new =
            self.seen.back().is_none_or(|(at, _)| now.since(*at) >= Duration::from_secs(1));
        if is_new {
            self.seen.push_back((now, requests));
        }
        while self.seen.len() > 1
            && self.seen.front().is_some_and(|(at, _)| now.since(*at).as_secs() > RATE_SECONDS)
        {
            self.seen.pop_front();
        }
    }

    /// The mean over the last seconds, when `requests` have left until `now`.
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn rate(&self, now: Moment, requests: u64) -> f64 {
        let Some((from, before)) = self.seen.front() else { return 0.0 };
        let seconds = now.since(*from).as_secs_f64().max(1.0);
        // The very first leaves as the time begins: there is a gap less than there are requests.
        let before = (*before).max(1);
        requests.saturating_sub(before) as f64 / seconds
    }
}

/// What is known of the run.
#[derive(Debug)]
struct Progress {
    began: Moment,
    chunk: usize,
    limit: f64,
    open: u64,
    totals: Totals,
    /// Requests that left.
    left: u64,
    recent: Recent,
    /// How it went so far, for the time that is left.
    course: RunProgress,
    /// What it does, and until when if it waits.
    doing: Doing,
    until: Moment,
}

impl Progress {
    fn new(began: Moment, chunk: usize, rate: f64) -> Self {
        Self {
            began,
            chunk,
            limit: rate,
            open: 0,
            totals: Totals::default(),
            left: 0,
            recent: Recent::default(),
            course: RunProgress::new(rate),
            doing: Doing::Beginning,
            until: began,
        }
    }

    fn take(&mut self, event: &Event, now: Moment) {
        let at = now.since(self.began);
        match event {
            Event::Began { open, .. } => {
                self.open = *open;
                self.began = now;
                self.recent.note(now, 0);
            }
            Event::Sent { .. } => {
                self.left += 1;
                if self.doing == Doing::Beginning {
                    self.doing = Doing::Sending;
                }
            }
            Event::Settled { verdict, latency, totals, .. } => {
                self.totals = *totals;
                let through = matches!(verdict, Verdict::Applied | Verdict::Rejected);
                self.course.on_response(at, *latency, through, totals.succeeded, totals.failed);
                // An import may have added jobs since the run began.
                self.open = self.open.max(totals.done());
            }
            Event::Concluded { totals } => self.totals = *totals,
            Event::Closed { reason, wait, since_ms } => {
                self.course.on_closed(at);
                self.doing = Doing::Waiting { why: *reason, since_ms: *since_ms, wait: *wait };
                self.until = now + *wait;
            }
            Event::Opened => {
                self.course.on_opened(at);
                self.doing = Doing::Sending;
            }
            Event::Stopping { .. } => self.doing = Doing::Stopping,
            Event::Ended { .. } => {}
        }
        self.recent.note(now, self.left);
    }

    fn view(&mut self, now: Moment) -> View {
        self.recent.note(now, self.left);
        let doing = match self.doing {
            Doing::Waiting { why, since_ms, .. } => {
                Doing::Waiting { why, since_ms, wait: self.until.since(now) }
            }
            doing => doing,
        };
        let open = self.open.saturating_sub(self.totals.done());
        View {
            done: self.totals.done(),
            total: self.open,
            failed: self.totals.failed,
            rate: self.recent.rate(now, self.left),
            limit: self.limit,
            throttled: self.totals.throttled,
            left: doing.has_an_end().then(|| self.course.estimate([open, 0, 0], self.chunk).time),
            doing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::CloseReason;

    fn settled(totals: Totals) -> Event {
        let (verdict, latency) = (Verdict::Applied, Duration::from_millis(100));
        Event::Settled { request: 1, verdict, latency, totals }
    }

    fn left() -> Event {
        Event::Sent { request: 1, status: crate::domain::job::Status::Enable, jobs: 100 }
    }

    #[test]
    fn a_run_is_told_from_its_events() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut progress = Progress::new(at(0), 100, 5.0);
        assert_eq!(progress.view(at(0)).doing, Doing::Beginning);
        progress.take(&Event::Began { run: 1, open: 3_000, orphans: 0 }, at(0));
        for _ in 0..11 {
            progress.take(&left(), at(1));
        }
        let totals = Totals { requests: 10, succeeded: 900, failed: 2, ..Totals::default() };
        progress.take(&settled(totals), at(2));
        assert_eq!(
            progress.view(at(2)).line(),
            "902 of 3000 done, 2 failed, 5.0 of 5 requests/s, 7 to 40 s left"
        );
        let wait = Duration::from_millis(2_140);
        progress.take(&Event::Closed { reason: CloseReason::Frequency, wait, since_ms: 0 }, at(2));
        let waits = progress.view(at(3)).line();
        assert!(waits.ends_with(", waiting 1.1 s: the service asked us to slow down"), "{waits}");
        progress.take(&left(), at(5));
        let tries = progress.view(at(5)).line();
        assert!(tries.ends_with(", trying again: the service asked us to slow down"), "{tries}");
        progress.take(&Event::Opened, at(5));
        assert_eq!(progress.view(at(5)).doing, Doing::Sending);
        progress.take(&Event::Stopping { in_flight: 3 }, at(5));
        assert!(progress.view(at(5)).line().ends_with("waiting for the last answers"));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut recent = Recent::default();
        assert!(recent.rate(at(0), 0).abs() < f64::EPSILON);
        for second in 0..=100 {
            recent.note(at(second), second * 5);
        }
        assert!((recent.rate(at(100), 500) - 5.0).abs() < 0.01);
        for second in 101..=120 {
            recent.note(at(second), 500);
        }
        assert!(recent.rate(at(120), 500).abs() < f64::EPSILON);
        assert!(recent.seen.len() <= 12);
    }

    #[test]
    fn the_rate_of_the_first_seconds_is_not_above_that_of_the_slots() {
        let slot = |n| Moment(Duration::from_millis(n * 200));
        let mut recent = Recent::default();
        recent.note(slot(0), 0);
        for n in 0..=40 {
            recent.note(slot(n), n + 1);
            assert!(recent.rate(slot(n), n + 1) <= 5.0, "slot {n}");
        }
        assert!((recent.rate(slot(40), 41) - 5.0).abs() < 0.01);
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
            progress.take(&left(), slot(answer));
            progress.take(&settled(totals), slot(answer));
        }
        let line = progress.view(slot(400)).line();
        assert!(line.ends_with("50 failed, 4.9 of 5 requests/s, 56 s to 2 min left"), "{line}");
        // The gate is shut for as long again: slots are as far apart as they were, but the
        // gate may shut once more.
        let wait = Duration::from_secs(80);
        let shut = Event::Closed { reason: CloseReason::Outage, wait, since_ms: 0 };
        progress.take(&shut, slot(400));
        assert_eq!(progress.view(slot(500)).left, None);
        progress.take(&Event::Opened, slot(800));
        let line = progress.view(slot(800)).line();
        assert!(line.ends_with("50 failed, 0.0 of 5 requests/s, 56 s to 7 min left"), "{line}");
    }
}
