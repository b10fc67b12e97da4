//! `--metrics-file`: the queue's metrics for the node_exporter's textfile collector, written during
//! a run and after it.
//!
//! Only the holder of the run lock writes the file: a run that ends without the lock does not touch
//! it while another run holds it. The results of earlier runs are read from the file before each
//! write, so that they are never lost. A failed write does not fail the run and is reported once.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::commands::error::{CommandError, Exit};
use crate::commands::overwrite::{OutputKind, why_kept};
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::metrics::{self, RunOutcome};
use crate::output::Output;
use crate::queue::Queue;
use crate::util::atomic_file::{IfExists, write_atomic};
use crate::util::escape::path_text;

/// How often the file is written during a run: the usual scrape interval.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// The most time that the end of a run spends on reading the queue, and again on writing the file.
const TIMEOUT: Duration = Duration::from_secs(5);

/// World-readable: the exporter runs as another user.
const MODE: Option<u32> = Some(0o644);

/// A larger file is not one of ours.
const EARLIER_BYTES_MAX: u64 = 16 << 20;

/// The metrics file of a run; `None`: not set.
#[derive(Debug)]
pub(super) struct MetricsFile(Option<Arc<Target>>);

#[derive(Debug)]
struct Target {
    path: PathBuf,
    database: PathBuf,
    rate: f64,
    out: Output,
    /// Whether this run has held the lock.
    has_held_lock: AtomicBool,
    /// Locked during a write, so only a blocking thread may lock it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: RunOutcome,
    warned: bool,
}

/// Updates the file until dropped.
pub(super) struct PeriodicWriter(Option<AbortHandle>);

impl Drop for PeriodicWriter {
    fn drop(&mut self) {
        if let Some(writer) = &self.0 {
            writer.abort();
        }
    }
}

impl MetricsFile {
    pub(super) fn new(settings: &Settings, out: &Output) -> Self {
        let target = settings.metrics_file.clone().map(|path| Target {
            path,
            database: settings.database.clone(),
            rate: settings.rate(),
            out: out.clone(),
            has_held_lock: AtomicBool::new(false),
            state: Mutex::default(),
        });
        Self(target.map(Arc::new))
    }

    /// Writes the file now, and periodically until the returned writer is dropped. Only for the
    /// holder of the run lock.
    pub(super) async fn keep<C: Clock>(&self, queue: &Queue, clock: &C) -> PeriodicWriter {
        let Some(target) = self.0.clone() else { return PeriodicWriter(None) };
        target.has_held_lock.store(true, Ordering::Relaxed);
        target.write_queue(queue).await;
        let (queue, clock) = (queue.clone(), clock.clone());
        let writer = tokio::spawn(async move {
            loop {
                clock.sleep_until(clock.now() + WRITE_EVERY).await;
                target.write_queue(&queue).await;
            }
        });
        PeriodicWriter(Some(writer.abort_handle()))
    }

    /// Writes the file a last time, with the `result` of the command, even if the queue cannot be
    /// read.
    pub(super) async fn conclude<C: Clock>(&self, result: &Result<Exit, CommandError>, clock: &C) {
        let Some(target) = &self.0 else { return };
        let exit = result.as_ref().map_or_else(CommandError::exit, |exit| *exit);
        if exit == Exit::Busy || target.belongs_to_another_run() {
            return;
        }
        let queue = tokio::select! {
            queue = target.read_queue() => queue,
            () = clock.sleep_until(clock.now() + TIMEOUT) => String::new(),
        };
        let now_ms = clock.wall_ms();
        tokio::select! {
            () = target.write(queue, move |outcome| outcome.then(exit as u8, now_ms)) => {}
            () = clock.sleep_until(clock.now() + TIMEOUT) => {}
        }
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another run holds the lock and this one never did. The result of this run would
    /// otherwise stay in the file until the other one ends.
    fn belongs_to_another_run(&self) -> bool {
        // The lock file is beside the queue file itself, not beside a link to it.
        let database = self.database.canonicalize();
        let database = database.as_deref().unwrap_or(&self.database);
        !self.has_held_lock.load(Ordering::Relaxed)
            && matches!(Queue::lease_holder(database), Ok(Some(_)))
    }

    async fn write_queue(self: &Arc<Self>, queue: &Queue) {
        match metrics::text(queue, self.rate).await {
            Ok(queue) => self.write(queue, |outcome| outcome).await,
            // The run itself reports the error.
            Err(e) => tracing::debug!(error = %e, "the queue could not be read for its metrics"),
        }
    }

    /// The queue's metrics; empty if it cannot be read.
    async fn read_queue(&self) -> String {
        let Ok(queue) = Queue::open_existing(&self.database).await else { return String::new() };
        let text = metrics::text(&queue, self.rate).await.unwrap_or_default();
        queue.close().await;
        text
    }

    /// Writes the metrics of the queue and the changed run outcome, on a blocking thread.
    async fn write(
        self: &Arc<Self>,
        queue: String,
        change: impl FnOnce(RunOutcome) -> RunOutcome + Send + 'static,
    ) {
        let target = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || target.write_now(&queue, change));
        if let Err(e) = written.await
            && let Ok(panic) = e.try_into_panic()
        {
            resume_unwind(panic);
        }
    }

    fn write_now(&self, queue: &str, change: impl FnOnce(RunOutcome) -> RunOutcome) {
        let mut state = self.state();
        let earlier = RunOutcome::read(&earlier_text(&self.path), &self.database);
        if earlier != RunOutcome::default() {
            state.outcome = earlier;
        }
        state.outcome = change(state.outcome);
        let text = format!("{queue}{}", metrics::run_outcome(&self.database, state.outcome));
        let written = match why_kept(&self.path, OutputKind::Metrics) {
            Ok(Some(why)) => Err(format!(
                "is not replaced: it {why}. The run continues without it. Name another file."
            )),
            Ok(None) => write_atomic(&self.path, text.as_bytes(), MODE, IfExists::Replace)
                .map_err(write_error),
            Err(e) => Err(write_error(e)),
        };
        let Err(why) = written else { return };
        if !state.warned {
            state.warned = true;
            self.out.warn(&format!("warning: the metrics file {} {why}", path_text(&self.path)));
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over an error")]
fn write_error(e: io::Error) -> String {
    format!(
        "cannot be written: {e}. The run continues without it. Its directory must exist and be writable."
    )
}

/// The present text of the file; empty if it does not exist or is not one of ours.
fn earlier_text(path: &Path) -> String {
    let is_ours = |found: &fs::Metadata| found.is_file() && found.len() <= EARLIER_BYTES_MAX;
    match fs::metadata(path) {
        Ok(found) if is_ours(&found) => fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::domain::job::{App, Library};
    use crate::queue::RunEnding;

    const NOW_MS: i64 = 1_735_689_600_000;
    const APP: App = App { sdkappid: 1_400_000_000, library: Library::Chitchat };

    fn target(folder: &Path) -> MetricsFile {
        MetricsFile(Some(Arc::new(Target {
            path: folder.join("deskbatch.prom"),
            database: folder.join("queue.db"),
            rate: 5.0,
            out: Output::new(true),
            has_held_lock: AtomicBool::new(false),
            state: Mutex::default(),
        })))
    }

    /// Moves the clock to the next write and waits until it is done.
    async fn next_write(clock: &ManualClock) {
        clock.advance_to_next_sleeper().await;
        while clock.next_sleeper().await <= clock.now() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn file_is_updated_every_15_s_until_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (metrics, clock) = (target(folder.path()), ManualClock::new(NOW_MS));
        let text = || fs::read_to_string(folder.path().join("deskbatch.prom")).unwrap();
        let queue = Queue::open(&folder.path().join("queue.db")).await.unwrap();
        let lease = queue.acquire(APP, NOW_MS).await.unwrap();
        let kept = metrics.keep(&queue, &clock).await;
        assert!(
            text().contains("deskbatch_build_info") && !text().contains("deskbatch_run_active")
        );

        let run = queue.begin_run(&lease, NOW_MS).await.unwrap();
        next_write(&clock).await;
        assert_eq!(clock.wall_ms(), NOW_MS + 15_000);
        assert!(text().contains("library=\"chitchat\"} 1\n"), "{}", text());
        assert!(!text().contains("deskbatch_last_run_exit_code"));

        queue.end_run(run, RunEnding::Outage, NOW_MS + 16_000).await.unwrap();
        next_write(&clock).await;
        assert_eq!(clock.wall_ms(), NOW_MS + 30_000);
        assert!(text().contains("ending=\"outage\"} 1\n"), "{}", text());

        drop(kept);
        while clock.sleepers().0 > 0 {
            tokio::task::yield_now().await;
        }
        metrics.conclude(&Ok(Exit::Stopped), &clock).await;
        assert_eq!(
            RunOutcome::read(&text(), &folder.path().join("queue.db")),
            RunOutcome::default().then(3, NOW_MS + 30_000)
        );
    }

    #[tokio::test]
    async fn outcome_of_another_run_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, database) = (ManualClock::new(NOW_MS), folder.path().join("queue.db"));
        let said =
            || RunOutcome::read(&earlier_text(&folder.path().join("deskbatch.prom")), &database);
        let queue = Queue::open(&database).await.unwrap();
        let first = target(folder.path());
        let kept = first.keep(&queue, &clock).await;
        assert_eq!(said(), RunOutcome::default());
        target(folder.path()).conclude(&Ok(Exit::Busy), &clock).await;
        assert_eq!(said(), RunOutcome::default());
        target(folder.path()).conclude(&Ok(Exit::Done), &clock).await;
        let done = RunOutcome::default().then(0, NOW_MS);
        assert_eq!(said(), done);
        next_write(&clock).await;
        assert_eq!(said(), done);
        drop(kept);
        // Removed during the run, which remembers the outcome.
        fs::remove_file(folder.path().join("deskbatch.prom")).unwrap();
        first.conclude(&Ok(Exit::Rejected), &clock).await;
        assert_eq!(said(), done.then(4, NOW_MS + 15_000));
    }
}
