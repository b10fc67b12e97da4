//! The progress of a run in this process, computed from its events.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Output;
use super::progress_display::ProgressDisplay;
use super::rate_window::RateWindow;
use super::run_view::{RunActivity, RunView};
use crate::domain::clock::{Clock, Moment};
use crate::domain::verdict::Verdict;
use crate::eta;
use crate::runner::{Event, Totals};

/// Displays the progress until the run ends. `chunk`, the most jobs in a request, and `rate`, the limit
/// in requests per second, are inputs of the ETA.
pub async fn follow<C: Clock>(
    out: Output,
    clock: C,
    mut events: Receiver<Event>,
    chunk: usize,
    rate: f64,
) {
    let mut display = ProgressDisplay::new(&out, clock.now());
    let mut progress = RunProgress::new(clock.now(), chunk, rate);
    loop {
        let redraw = display.next(clock.now());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(Event::Ended { .. }) | Err(RecvError::Closed) => break,
                Ok(event) => progress.apply(&event, clock.now()),
                // The channel dropped events; the next event contains all totals.
                Err(RecvError::Lagged(_)) => continue,
            },
            () = clock.sleep_until(redraw) => {}
        }
        display.show(&progress.view(clock.now()), clock.now());
    }
    display.clear();
}

/// The state of the run, updated by its events.
#[derive(Debug)]
struct RunProgress {
    began: Moment,
    chunk: usize,
    limit: f64,
    open: u64,
    totals: Totals,
    /// Requests that were sent.
    sent: u64,
    rate: RateWindow,
    /// The history for the ETA.
    course: eta::RunProgress,
    activity: RunActivity,
    /// When a wait ends.
    wait_ends: Moment,
}

impl RunProgress {
    fn new(began: Moment, chunk: usize, rate: f64) -> Self {
        Self {
            began,
            chunk,
            limit: rate,
            open: 0,
            totals: Totals::default(),
            sent: 0,
            rate: RateWindow::default(),
            course: eta::RunProgress::new(rate),
            activity: RunActivity::Beginning,
            wait_ends: began,
        }
    }

    fn apply(&mut self, event: &Event, now: Moment) {
        let at = now.since(self.began);
        match event {
            Event::Began { open, .. } => {
                self.open = *open;
                self.began = now;
                self.rate.note(now, 0);
            }
            Event::Sent { .. } => {
                self.sent += 1;
                if self.activity == RunActivity::Beginning {
                    self.activity = RunActivity::Sending;
                }
            }
            Event::Settled { verdict, latency, totals, .. } => {
                self.totals = *totals;
                let through = matches!(verdict, Verdict::Applied | Verdict::Rejected);
                self.course.on_response(at, *latency, through, totals.succeeded, totals.failed);
                // An import may have added jobs during the run.
                self.open = self.open.max(totals.done());
            }
            Event::Concluded { totals } => self.totals = *totals,
            Event::Waiting { reason, wait, since_ms } => {
                self.course.on_closed(at);
                self.activity =
                    RunActivity::Waiting { why: *reason, since_ms: *since_ms, wait: *wait };
                self.wait_ends = now + *wait;
            }
            Event::Resumed => {
                self.course.on_opened(at);
                self.activity = RunActivity::Sending;
            }
            Event::Stopping { .. } => self.activity = RunActivity::Stopping,
            Event::Ended { .. } => {}
        }
        self.rate.note(now, self.sent);
    }

    fn view(&mut self, now: Moment) -> RunView {
        self.rate.note(now, self.sent);
        let activity = match self.activity {
            RunActivity::Waiting { why, since_ms, .. } => {
                RunActivity::Waiting { why, since_ms, wait: self.wait_ends.since(now) }
            }
            activity => activity,
        };
        let open = self.open.saturating_sub(self.totals.done());
        RunView {
            done: self.totals.done(),
            total: self.open,
            failed: self.totals.failed,
            rate: self.rate.rate(now, self.sent),
            limit: self.limit,
            throttled: self.totals.throttled,
            eta: activity.has_eta().then(|| self.course.estimate([open, 0, 0], self.chunk).time),
            activity,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::WaitReason;

    fn settled(totals: Totals) -> Event {
        let (verdict, latency) = (Verdict::Applied, Duration::from_millis(100));
        Event::Settled { request: 1, verdict, latency, totals }
    }

    fn sent() -> Event {
        Event::Sent { request: 1, status: crate::domain::job::TargetStatus::Enable, jobs: 100 }
    }

    #[test]
    fn view_follows_events() {
        let at = |s| Moment(Duration::from_secs(s));
        let mut progress = RunProgress::new(at(0), 100, 5.0);
        assert_eq!(progress.view(at(0)).activity, RunActivity::Beginning);
        progress.apply(&Event::Began { run: 1, open: 3_000 }, at(0));
        for _ in 0..11 {
            progress.apply(&sent(), at(1));
        }
        let totals = Totals { requests: 10, succeeded: 900, failed: 2, ..Totals::default() };
        progress.apply(&settled(totals), at(2));
        assert_eq!(
            progress.view(at(2)).line(),
            "902 of 3000 done, 2 failed, 5.0 of 5 requests/s, ETA 7 to 40 s"
        );
        let wait = Duration::from_millis(2_140);
        progress.apply(&Event::Waiting { reason: WaitReason::Throttled, wait, since_ms: 0 }, at(2));
        let waits = progress.view(at(3)).line();
        assert!(waits.ends_with(", throttled by the service, waiting 1.1 s"), "{waits}");
        progress.apply(&sent(), at(5));
        let probes = progress.view(at(5)).line();
        assert!(probes.ends_with(", throttled by the service, sending one request"), "{probes}");
        progress.apply(&Event::Resumed, at(5));
        assert_eq!(progress.view(at(5)).activity, RunActivity::Sending);
        progress.apply(&Event::Stopping { in_flight: 3 }, at(5));
        assert!(progress.view(at(5)).line().ends_with("waiting for in-flight requests"));
    }

    #[test]
    fn eta_counts_slots_and_not_full_chunks() {
        let slot = |n| Moment(Duration::from_millis(n * 204));
        let mut progress = RunProgress::new(slot(0), 100, 5.0);
        progress.apply(&Event::Began { run: 1, open: 20_050 }, slot(0));
        // Every eighth response isolates a bad question: 25 jobs per request, although a chunk has 100.
        for response in 1..=400 {
            let (succeeded, failed) = (response * 25, response / 8);
            let totals = Totals { requests: response, succeeded, failed, ..Totals::default() };
            progress.apply(&sent(), slot(response));
            progress.apply(&settled(totals), slot(response));
        }
        let line = progress.view(slot(400)).line();
        assert!(line.ends_with("50 failed, 4.9 of 5 requests/s, ETA 56 s to 2 min"), "{line}");
        // A pause of the same length leaves the spacing unchanged, but another one may follow.
        let wait = Duration::from_secs(80);
        let shut = Event::Waiting { reason: WaitReason::Outage, wait, since_ms: 0 };
        progress.apply(&shut, slot(400));
        assert_eq!(progress.view(slot(500)).eta, None);
        progress.apply(&Event::Resumed, slot(800));
        let line = progress.view(slot(800)).line();
        assert!(line.ends_with("50 failed, 0.0 of 5 requests/s, ETA 56 s to 7 min"), "{line}");
    }
}
