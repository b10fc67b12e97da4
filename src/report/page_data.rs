//! The data of the HTML report: the queue at one time, and inputs from outside the queue.

use std::fmt;
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::domain::job::JobState;
use crate::queue::{
    AppChunkSize, AppRate, BatchId, Holder, Queue, QueueError, QueueReport, Record, RecordFilter,
    RunStats,
};

/// The shortest pause between requests that counts as a wait, in slots.
const WAIT_SLOTS: f64 = 4.0;

/// The shortest pause that counts as a wait at any rate, in milliseconds.
const WAIT_MS_MIN: f64 = 1_000.0;

/// The ETA in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEta {
    /// The remaining time.
    pub time: String,
    /// The remaining requests.
    pub requests: String,
}

/// Computes the ETA; `None` when no job is pending or in flight.
pub type Estimate = Arc<dyn Fn(&PageData) -> Option<PageEta> + Send + Sync>;

/// The inputs of a page that do not come from the queue.
#[derive(Clone)]
pub struct PageInfo {
    /// The queue file, as shown.
    pub database: String,
    /// The version of the program.
    pub version: &'static str,
    /// The flags that select this queue, with a leading space; empty for the default.
    pub flags: String,
    /// The rate limit, in requests per second.
    pub rate: f64,
    /// The batch of the page; `None` for the whole queue.
    pub batch: Option<BatchId>,
    /// The most failed questions that are listed.
    pub failed_max: u32,
    /// Settings and their values, without secrets.
    pub settings: Vec<(String, String)>,
    /// The ETA.
    pub estimate: Estimate,
}

impl fmt::Debug for PageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageInfo").field("database", &self.database).finish_non_exhaustive()
    }
}

/// The queue at one time.
#[derive(Debug, Clone)]
pub struct PageData {
    /// Counts, runs, batches and requests.
    pub overview: QueueReport,
    /// The first failed jobs.
    pub failed: Vec<Record>,
    /// The learned rates.
    pub learned_rates: Vec<AppRate>,
    /// The learned chunk sizes.
    pub learned_sizes: Vec<AppChunkSize>,
    /// The process that holds the run lock.
    pub running: Option<Holder>,
    /// The time of the read, in UTC milliseconds.
    pub now_ms: i64,
}

impl PageData {
    /// Reads the data.
    ///
    /// # Errors
    /// When the queue cannot be read or has an invalid row.
    pub async fn load(queue: &Queue, info: &PageInfo, now_ms: i64) -> Result<Self, QueueError> {
        // Read before the rest: if a run ends in between, the queue contains its end.
        let running = Queue::lease_holder(queue.path())?;
        #[allow(clippy::cast_possible_truncation, reason = "the rate is at least one an hour")]
        let wait_ms_min = (WAIT_SLOTS * 1_000.0 / info.rate).max(WAIT_MS_MIN) as i64;
        let overview = queue.overview(info.batch, wait_ms_min).await?;
        let failed = if overview.counts().failed == 0 {
            Vec::new()
        } else {
            let filter = RecordFilter {
                state: Some(JobState::Failed),
                batch: info.batch,
                limit: Some(info.failed_max),
                ..RecordFilter::default()
            };
            queue.records(filter).try_collect().await?
        };
        let learned_rates = queue.learned_rates().await?;
        let learned_sizes = queue.learned_chunk_sizes(now_ms).await?;
        Ok(Self { overview, failed, learned_rates, learned_sizes, running, now_ms })
    }

    /// Whether `run` is running: it has no recorded end, and its process holds the lock. The operating system
    /// releases the lock of a dead process.
    pub fn is_running(&self, run: &RunStats) -> bool {
        // While a process takes the lock, its pid is briefly 0.
        let is_holder = |holder: &Holder| holder.pid == 0 || i64::from(holder.pid) == run.pid;
        run.ending.is_none() && self.running.as_ref().is_some_and(is_holder)
    }
}
