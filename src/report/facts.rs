//! What the page tells: figures of the queue, gathered at one moment, and what is known of
//! them from outside it.

use std::fmt;
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::domain::job::JobState;
use crate::store::{
    BatchId, Holder, KeptPace, KeptSize, Overview, Record, RecordFilter, RunLock, RunTally, Store,
    StoreError,
};

/// A pause of less than so many slots is no wait.
const WAIT_SLOTS: f64 = 4.0;

/// The shortest pause that is told as a wait, in milliseconds.
const WAIT_MS_MIN: f64 = 1_000.0;

/// How long the rest takes, in words; `None` when nothing is left.
pub type Estimate = Arc<dyn Fn(&Facts) -> Option<String> + Send + Sync>;

/// What stays the same while a page is looked at.
#[derive(Clone)]
pub struct About {
    /// The queue file, as the page names it.
    pub database: String,
    /// The version of the program.
    pub version: &'static str,
    /// What has to follow `deskbatch COMMAND` to mean this queue, with a space in front;
    /// empty when it is the usual one.
    pub flags: String,
    /// The limit, in requests a second.
    pub rate: f64,
    /// The one batch that is meant; `None`: all of the queue.
    pub batch: Option<BatchId>,
    /// The most refused questions that are listed.
    pub refused_max: u32,
    /// Settings and their values, without secrets.
    pub settings: Vec<(String, String)>,
    /// How long the rest takes.
    pub estimate: Estimate,
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About").field("database", &self.database).finish_non_exhaustive()
    }
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The queue in figures.
    pub overview: Overview,
    /// The first of the questions that were refused.
    pub refused: Vec<Record>,
    /// What runs have learned of the pace.
    pub paces: Vec<KeptPace>,
    /// The same for the size of a request.
    pub sizes: Vec<KeptSize>,
    /// Who has the queue for a run.
    pub running: Option<Holder>,
    /// When this was gathered, in UTC milliseconds.
    pub now_ms: i64,
}

impl Facts {
    /// Gathers them.
    ///
    /// # Errors
    /// When the queue file cannot be read or holds an impossible row.
    pub async fn gather(store: &Store, about: &About, now_ms: i64) -> Result<Self, StoreError> {
        // Asked first: a run that has ended since has its end in the queue.
        let running = RunLock::holder_of(store.path())?;
        #[allow(clippy::cast_possible_truncation, reason = "the rate is at least one an hour")]
        let wait_ms_min = (WAIT_SLOTS * 1_000.0 / about.rate).max(WAIT_MS_MIN) as i64;
        let overview = store.overview(about.batch, wait_ms_min).await?;
        let refused = if overview.counts().failed == 0 {
            Vec::new()
        } else {
            let filter = RecordFilter {
                state: Some(JobState::Failed),
                batch: about.batch,
                limit: Some(about.refused_max),
                ..RecordFilter::default()
            };
            store.records(filter).try_collect().await?
        };
        let (paces, sizes) = (store.paces().await?, store.sizes(now_ms).await?);
        Ok(Self { overview, refused, paces, sizes, running, now_ms })
    }

    /// Whether `run` goes on: it has no end yet, and its process has the queue. One that has
    /// died left the lock, whatever the queue says of it.
    pub fn goes_on(&self, run: &RunTally) -> bool {
        // Whoever takes the lock has no number for a moment.
        let is_its = |holder: &Holder| holder.pid == 0 || i64::from(holder.pid) == run.pid;
        run.ending.is_none() && self.running.as_ref().is_some_and(is_its)
    }
}
