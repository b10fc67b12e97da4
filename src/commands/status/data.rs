//! What `status` reads from the queue, and the ETA of its open jobs.

use crate::commands::error::CommandError;
use crate::commands::eta::{EtaInputs, RunResults};
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::App;
use crate::eta::Eta;
use crate::queue::{AppChunkSize, AppRate, BatchSummary, Holder, Queue, QueueStatus, RunSummary};

/// The state of the queue at one time.
pub(super) struct StatusData {
    pub(super) status: QueueStatus,
    /// The process that holds the run lock.
    pub(super) running: Option<Holder>,
    pub(super) batches: Vec<BatchSummary>,
    pub(super) learned_rates: Vec<AppRate>,
    pub(super) learned_sizes: Vec<AppChunkSize>,
}

impl StatusData {
    /// Reads it from the queue.
    pub(super) async fn load(queue: &Queue) -> Result<Self, CommandError> {
        // Before the rest: a run that ends in between has its end in the queue then.
        let running = Queue::lease_holder(queue.path())?;
        Ok(Self {
            running,
            status: queue.status().await?,
            batches: queue.batches().await?,
            learned_rates: queue.learned_rates().await?,
            learned_sizes: queue.learned_chunk_sizes(SystemClock::new().wall_ms()).await?,
        })
    }

    /// The newest run, if it has not ended.
    pub(super) fn unfinished_run(&self) -> Option<&RunSummary> {
        self.status.last_run.as_ref().filter(|run| run.finished_ms.is_none())
    }

    /// The ETA of `open` jobs, assuming that they are like those of the newest run. For the app of
    /// the settings, or for all apps if none is set.
    pub(super) fn eta(&self, settings: &Settings, open: u64) -> Eta {
        let app = settings.app().ok();
        let is_of_app = |of: App| app.is_none_or(|app| app == of);
        let rates = self.learned_rates.iter().filter(|kept| is_of_app(kept.app));
        let sizes = self.learned_sizes.iter().filter(|kept| is_of_app(kept.app));
        let figure = |n: i64| u64::try_from(n).unwrap_or_default();
        let run = self.status.last_run.as_ref().map(|run| RunResults {
            succeeded: figure(run.totals.succeeded),
            failed: figure(run.totals.failed),
            evaluated: figure(run.totals.evaluated_requests),
            throttled: figure(run.totals.throttled),
        });
        EtaInputs::new(settings, rates, sizes).estimate_after(open, run)
    }
}
