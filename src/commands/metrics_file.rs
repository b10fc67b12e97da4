//! `--metrics-file`: the queue's metrics in a file for the node exporter's textfile collector,
//! kept while a run goes on and left behind by it.
//!
//! The file belongs to whoever has the queue: a run that ends before it has got the queue leaves
//! it alone while another one has it.
//! What it says of earlier runs is read from it again before each writing, so that two runs
//! one after the other never take back what the other one said. A file that cannot be
//! written never ends a run; it is said once.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::replace::{Kind, why_kept};
use super::whole_file::{IfThere, write_whole};
use super::{CommandError, Exit};
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::metrics::{self, Ended};
use crate::output::Output;
use crate::store::{RunLock, Store};
use crate::text::path_text;

/// How often the file is written while a run goes on: as often as Prometheus asks by habit.
const EVERY: Duration = Duration::from_secs(15);

/// The longest that the end of a run waits for a look at the queue, and then for the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everybody may read it: the exporter is another user.
const MODE: Option<u32> = Some(0o644);

/// More than an earlier file ever has. What is larger is none of ours.
const EARLIER_BYTES_MAX: u64 = 16 << 20;

/// Where a run's metrics go, if anywhere.
#[derive(Debug)]
pub(super) struct MetricsFile(Option<Arc<Target>>);

#[derive(Debug)]
struct Target {
    path: PathBuf,
    database: PathBuf,
    rate: f64,
    out: Output,
    /// Whether this run has had the queue.
    has_had: AtomicBool,
    /// Held while the file is written, so by nobody who may not wait for that.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: Ended,
    warned: bool,
}

/// Keeps the file up to date until it is dropped.
pub(super) struct Keeping(Option<AbortHandle>);

impl Drop for Keeping {
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
            has_had: AtomicBool::new(false),
            state: Mutex::default(),
        });
        Self(target.map(Arc::new))
    }

    /// Writes the file, and again and again until the answer is dropped. For whoever has the
    /// queue, and nobody else.
    pub(super) async fn keep<C: Clock>(&self, store: &Store, clock: &C) -> Keeping {
        let Some(target) = self.0.clone() else { return Keeping(None) };
        target.has_had.store(true, Ordering::Relaxed);
        target.write_queue(store).await;
        let (store, clock) = (store.clone(), clock.clone());
        let writer = tokio::spawn(async move {
            loop {
                clock.sleep_until(clock.now() + EVERY).await;
                target.write_queue(&store).await;
            }
        });
        Keeping(Some(writer.abort_handle()))
    }

    /// Writes the file a last time, with how the command `ended`; of the queue what can still
    /// be read.
    pub(super) async fn conclude<C: Clock>(&self, ended: &Result<Exit, CommandError>, clock: &C) {
        let Some(target) = &self.0 else { return };
        let exit = ended.as_ref().map_or_else(CommandError::exit, |exit| *exit);
        if exit == Exit::Busy || target.is_anothers() {
            return;
        }
        let queue = tokio::select! {
            queue = target.look() => queue,
            () = clock.sleep_until(clock.now() + PATIENCE) => String::new(),
        };
        let now_ms = clock.wall_ms();
        tokio::select! {
            () = target.write(queue, move |ended| ended.then(exit as u8, now_ms)) => {}
            () = clock.sleep_until(clock.now() + PATIENCE) => {}
        }
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file is that of a going run, and this one has had no part in it. How this
    /// one ended must not stand there until that one ends.
    fn is_anothers(&self) -> bool {
        // The lock lies beside the file itself, not beside a link to it.
        let database = self.database.canonicalize();
        let database = database.as_deref().unwrap_or(&self.database);
        !self.has_had.load(Ordering::Relaxed) && matches!(RunLock::holder_of(database), Ok(Some(_)))
    }

    async fn write_queue(self: &Arc<Self>, store: &Store) {
        match metrics::text(store, self.rate).await {
            Ok(queue) => self.write(queue, |ended| ended).await,
            // The run meets the same trouble, and is who tells.
            Err(e) => tracing::debug!(error = %e, "the queue could not be read for its metrics"),
        }
    }

    /// The queue's metrics; nothing if it cannot be read.
    async fn look(&self) -> String {
        let Ok(store) = Store::open_existing(&self.database).await else { return String::new() };
        let text = metrics::text(&store, self.rate).await.unwrap_or_default();
        store.close().await;
        text
    }

    /// Puts the metrics of the `queue` into the file, with what is known of how runs ended
    /// after `change`. A folder that does not answer holds up nobody but the caller.
    async fn write(
        self: &Arc<Self>,
        queue: String,
        change: impl FnOnce(Ended) -> Ended + Send + 'static,
    ) {
        let target = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || target.write_now(&queue, change));
        if let Err(e) = written.await
            && let Ok(panic) = e.try_into_panic()
        {
            resume_unwind(panic);
        }
    }

    fn write_now(&self, queue: &str, change: impl FnOnce(Ended) -> Ended) {
        let mut state = self.state();
        let earlier = Ended::read(&earlier(&self.path), &self.database);
        if earlier != Ended::default() {
            state.ended = earlier;
        }
        state.ended = change(state.ended);
        let text = format!("{queue}{}", metrics::ended(&self.database, state.ended));
        let written = match why_kept(&self.path, Kind::Metrics) {
            Ok(Some(why)) => {
                Err(format!("is kept: it {why}: the run goes on without it; name another file"))
            }
            Ok(None) => {
                write_whole(&self.path, text.as_bytes(), MODE, IfThere::Replace).map_err(unwritable)
            }
            Err(e) => Err(unwritable(e)),
        };
        let Err(why) = written else { return };
        if !state.warned {
            state.warned = true;
            self.out.must_say(&format!("the metrics file {} {why}", path_text(&self.path)));
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over an error")]
fn unwritable(e: io::Error) -> String {
    format!(
        "cannot be written: {e}: the run goes on without it; its folder has to be there and writable"
    )
}

/// What the file says now; nothing if it is not there, or is something else.
fn earlier(path: &Path) -> String {
    let ours = |found: &fs::Metadata| found.is_file() && found.len() <= EARLIER_BYTES_MAX;
    match fs::metadata(path) {
        Ok(found) if ours(&found) => fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::domain::job::{App, Library};
    use crate::store::RunEnding;

    const NOW_MS: i64 = 1_735_689_600_000;
    const APP: App = App { sdkappid: 1_400_000_000, library: Library::Chitchat };

    fn target(folder: &Path) -> MetricsFile {
        MetricsFile(Some(Arc::new(Target {
            path: folder.join("deskbatch.prom"),
            database: folder.join("queue.db"),
            rate: 5.0,
            out: Output::new(true),
            has_had: AtomicBool::new(false),
            state: Mutex::default(),
        })))
    }

    /// Moves the clock to the next writing and waits until it is done.
    async fn next_writing(clock: &ManualClock) {
        clock.advance_to_next_sleeper().await;
        while clock.next_sleeper().await <= clock.now() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_file_follows_the_queue_every_15_s_and_stops_with_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let (metrics, clock) = (target(folder.path()), ManualClock::new(NOW_MS));
        let text = || fs::read_to_string(folder.path().join("deskbatch.prom")).unwrap();
        let store = Store::open(&folder.path().join("queue.db")).await.unwrap();
        let lock = RunLock::take(store.path(), NOW_MS).unwrap();
        let kept = metrics.keep(&store, &clock).await;
        assert!(
            text().contains("deskbatch_build_info") && !text().contains("deskbatch_run_active")
        );

        let run = store.begin_run(&lock, APP, NOW_MS).await.unwrap().run;
        next_writing(&clock).await;
        assert_eq!(clock.wall_ms(), NOW_MS + 15_000);
        assert!(text().contains("library=\"chitchat\"} 1\n"), "{}", text());
        assert!(!text().contains("deskbatch_last_run_exit_code"));

        store.end_run(run, RunEnding::Outage, NOW_MS + 16_000).await.unwrap();
        next_writing(&clock).await;
        assert_eq!(clock.wall_ms(), NOW_MS + 30_000);
        assert!(text().contains("ending=\"outage\"} 1\n"), "{}", text());

        drop(kept);
        while clock.sleepers().0 > 0 {
            tokio::task::yield_now().await;
        }
        metrics.conclude(&Ok(Exit::Stopped), &clock).await;
        assert_eq!(
            Ended::read(&text(), &folder.path().join("queue.db")),
            Ended::default().then(3, NOW_MS + 30_000)
        );
    }

    #[tokio::test]
    async fn what_another_run_has_said_since_is_kept_and_a_refused_one_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, database) = (ManualClock::new(NOW_MS), folder.path().join("queue.db"));
        let said = || Ended::read(&earlier(&folder.path().join("deskbatch.prom")), &database);
        let store = Store::open(&database).await.unwrap();
        let first = target(folder.path());
        let kept = first.keep(&store, &clock).await;
        assert_eq!(said(), Ended::default());
        target(folder.path()).conclude(&Ok(Exit::Busy), &clock).await;
        assert_eq!(said(), Ended::default());
        target(folder.path()).conclude(&Ok(Exit::Done), &clock).await;
        let done = Ended::default().then(0, NOW_MS);
        assert_eq!(said(), done);
        next_writing(&clock).await;
        assert_eq!(said(), done);
        drop(kept);
        // Taken away while the run goes on: it knows it still.
        fs::remove_file(folder.path().join("deskbatch.prom")).unwrap();
        first.conclude(&Ok(Exit::Refused), &clock).await;
        assert_eq!(said(), done.then(4, NOW_MS + 15_000));
    }
}
