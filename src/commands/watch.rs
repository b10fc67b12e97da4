//! `deskbatch status --watch`: a run that goes on elsewhere on this machine, as its own
//! terminal shows it. Only reads the queue, once a second; what it says at the end is `status`.

use std::time::Duration;

use super::status::{Shown, gather, json, left, text};
use super::{CommandError, Exit};
use crate::cli::StatusArgs;
use crate::config::Settings;
use crate::domain::clock::{Clock as _, Moment, SystemClock};
use crate::limiter::CloseReason;
use crate::output::{Board, Doing, Output, Recent, View};
use crate::store::{RunSummary, Store, Wait, WaitsFor};

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches until nobody has the queue any more.
pub(super) async fn watch(
    settings: &Settings,
    args: &StatusArgs,
    store: &Store,
    out: &Output,
) -> Result<Exit, CommandError> {
    let failed = || CommandError::io("stdout cannot be written");
    let clock = SystemClock::new();
    let mut board = Board::new(out, clock.now()).at_once(clock.now());
    let mut watched = Watched::default();
    let mut said = String::new();
    loop {
        let shown = gather(store, clock.wall_ms()).await?;
        let goes_on = shown.running.is_some();
        if args.json {
            let line = json(settings, &shown);
            if line != said {
                out.json(&line).map_err(failed())?;
                said = line;
            }
        }
        if !goes_on {
            board.clear();
            if watched.looks == 0 {
                out.say("no run is going on");
            }
            if !args.json {
                out.data(&text(settings, &shown)).map_err(failed())?;
            }
            return Ok(Exit::Done);
        }
        let open = match going(&shown) {
            Some(run) => store.open_of(run.app(), run.approval).await?.to_send,
            None => shown.status.counts.open(),
        };
        let now = clock.now();
        let view = watched.view(settings, &shown, open, now, clock.wall_ms());
        let mut shown_at = now;
        board.show(&view, now);
        // A wait counts down between two looks.
        while shown_at < now + LOOK_EVERY {
            shown_at = board.next(clock.now()).min(now + LOOK_EVERY);
            clock.sleep_until(shown_at).await;
            board.show(&view.later(clock.now().since(now)), clock.now());
        }
    }
}

/// The run that goes on, once it has begun.
fn going(shown: &Shown) -> Option<&RunSummary> {
    shown.status.last_run.as_ref().filter(|run| run.finished_ms.is_none())
}

/// What is remembered from look to look.
#[derive(Default)]
struct Watched {
    looks: u64,
    recent: Recent,
}

impl Watched {
    fn view(
        &mut self,
        settings: &Settings,
        shown: &Shown,
        open: u64,
        now: Moment,
        now_ms: i64,
    ) -> View {
        self.looks += 1;
        let figure = |n: i64| u64::try_from(n).unwrap_or_default();
        let Some(run) = going(shown) else {
            return View {
                done: 0,
                total: open,
                failed: 0,
                rate: 0.0,
                limit: settings.rate(),
                throttled: 0,
                left: None,
                doing: Doing::Beginning,
            };
        };
        let requests = figure(run.requests);
        self.recent.note(now, requests);
        let done = figure(run.succeeded) + figure(run.failed);
        let doing = match run.wait {
            Some(wait) => waits(wait, now_ms),
            None if requests == 0 => Doing::Beginning,
            None => Doing::Sending,
        };
        View {
            done,
            total: done + open,
            failed: figure(run.failed),
            rate: self.recent.rate(now, requests),
            limit: settings.rate(),
            throttled: figure(run.throttled),
            left: doing.has_an_end().then(|| left(settings, shown, open).time),
            doing,
        }
    }
}

fn waits(wait: Wait, now_ms: i64) -> Doing {
    let left_ms = u64::try_from(wait.until_ms.saturating_sub(now_ms)).unwrap_or_default();
    let closed =
        |why| Doing::Waiting { why, since_ms: wait.since_ms, wait: Duration::from_millis(left_ms) };
    match wait.waits_for {
        WaitsFor::SlowDown => closed(CloseReason::Frequency),
        WaitsFor::Outage => closed(CloseReason::Outage),
        WaitsFor::Answers => Doing::Stopping,
    }
}
