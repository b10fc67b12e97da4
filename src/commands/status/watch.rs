//! `deskbatch status --watch`: shows a run of another process on this host like its own terminal
//! does. Reads the queue once per second and ends with the output of `status`.

use std::time::Duration;

use super::data::StatusData;
use super::json::json;
use super::text::text;
use crate::cli::StatusArgs;
use crate::commands::error::{CommandError, Exit};
use crate::config::Settings;
use crate::domain::clock::{Clock as _, Moment, SystemClock};
use crate::output::{Output, ProgressDisplay, RateWindow, RunActivity, RunView};
use crate::queue::{Queue, Wait, WaitReason};

/// How often the queue is read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Watches until no process holds the run lock.
pub(super) async fn watch(
    settings: &Settings,
    args: &StatusArgs,
    queue: &Queue,
    out: &Output,
) -> Result<Exit, CommandError> {
    let failed = || CommandError::io("cannot write to stdout");
    let clock = SystemClock::new();
    let mut display = ProgressDisplay::new(out, clock.now()).at_once(clock.now());
    let mut watcher = Watcher::default();
    let mut last_json = String::new();
    loop {
        let data = StatusData::load(queue).await?;
        if args.json {
            let line = json(settings, &data);
            if line != last_json {
                out.json(&line).map_err(failed())?;
                last_json = line;
            }
        }
        if data.running.is_none() {
            display.clear();
            if watcher.reads == 0 {
                out.info("no run is active");
            }
            if !args.json {
                out.data(&text(settings, &data)).map_err(failed())?;
            }
            return Ok(Exit::Done);
        }
        let open = match data.unfinished_run() {
            Some(run) => queue.open_jobs(run.app(), run.approval).await?.to_send,
            None => data.status.counts.open(),
        };
        let now = clock.now();
        let view = watcher.view(settings, &data, open, now, clock.wall_ms());
        let mut shown_at = now;
        display.show(&view, now);
        // A wait counts down between two reads.
        while shown_at < now + READ_EVERY {
            shown_at = display.next(clock.now()).min(now + READ_EVERY);
            clock.sleep_until(shown_at).await;
            display.show(&view.later(clock.now().since(now)), clock.now());
        }
    }
}

/// What is kept from one read to the next.
#[derive(Default)]
struct Watcher {
    reads: u64,
    rate: RateWindow,
}

impl Watcher {
    fn view(
        &mut self,
        settings: &Settings,
        data: &StatusData,
        open: u64,
        now: Moment,
        now_ms: i64,
    ) -> RunView {
        self.reads += 1;
        let figure = |n: i64| u64::try_from(n).unwrap_or_default();
        let Some(run) = data.unfinished_run() else {
            return RunView {
                done: 0,
                total: open,
                failed: 0,
                rate: 0.0,
                limit: settings.rate(),
                throttled: 0,
                eta: None,
                activity: RunActivity::Beginning,
            };
        };
        let requests = figure(run.totals.requests);
        self.rate.note(now, requests);
        let done = figure(run.totals.succeeded) + figure(run.totals.failed);
        let activity = match run.wait {
            Some(wait) => waiting(wait, now_ms),
            None if requests == 0 => RunActivity::Beginning,
            None => RunActivity::Sending,
        };
        RunView {
            done,
            total: done + open,
            failed: figure(run.totals.failed),
            rate: self.rate.rate(now, requests),
            limit: settings.rate(),
            throttled: figure(run.totals.throttled),
            eta: activity.has_eta().then(|| data.eta(settings, open).time),
            activity,
        }
    }
}

fn waiting(wait: Wait, now_ms: i64) -> RunActivity {
    let remaining_ms = u64::try_from(wait.until_ms.saturating_sub(now_ms)).unwrap_or_default();
    let remaining = Duration::from_millis(remaining_ms);
    match wait.reason {
        WaitReason::Responses => RunActivity::Stopping,
        why => RunActivity::Waiting { why, since_ms: wait.since_ms, wait: remaining },
    }
}
