//! The learned limits: a run starts with the rate and the chunk size that earlier runs of its app measured,
//! and saves its own, periodically and at its end.

use std::time::Duration;

use super::{ActiveRun, Clock, QueueError, Transport};
use crate::domain::clock::Moment;
use crate::domain::job::App;
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::queue::{DUE_WITHIN, Queue};

/// How often the limits are saved. A crash loses what the run learned after the last save.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The service counts its rate limit over a second.
const RATE_WINDOW_MS: i64 = 1_000;

#[derive(Debug)]
pub(super) struct LearnedLimits {
    app: App,
    /// When the next periodic save is due.
    save_at: Moment,
    /// The chunk size in the queue file.
    saved_chunk_size: Option<LearnedChunkSize>,
}

impl LearnedLimits {
    pub(super) fn new(app: App) -> Self {
        Self { app, save_at: Moment::default(), saved_chunk_size: None }
    }

    async fn load_rate(&self, queue: &Queue) -> Result<Option<LearnedRate>, QueueError> {
        let saved = queue.learned_rate(self.app).await?;
        if let Some(saved) = &saved {
            tracing::debug!(rate = saved.learned.rate, "learned rate of earlier runs");
        }
        Ok(saved.map(|saved| saved.learned))
    }

    async fn load_chunk_size(
        &mut self,
        queue: &Queue,
        now_ms: i64,
    ) -> Result<Option<LearnedChunkSize>, QueueError> {
        let saved = queue.learned_chunk_size(self.app, now_ms).await?;
        if let Some(saved) = &saved {
            tracing::debug!(jobs = saved.limit.accepted, "learned chunk size of earlier runs");
            self.saved_chunk_size = Some(saved.limit);
        }
        Ok(saved.map(|saved| saved.limit))
    }

    /// Whether a periodic save is due. If it is, sets the due time of the next one.
    fn take_due(&mut self, now: Moment) -> bool {
        let is_due = now >= self.save_at;
        if is_due {
            self.save_at = now + SAVE_INTERVAL;
        }
        is_due
    }

    async fn save(
        &mut self,
        queue: &Queue,
        rate: Option<LearnedRate>,
        chunk_size: Option<LearnedChunkSize>,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        if let Some(rate) = rate {
            queue.save_learned_rate(self.app, &rate, now_ms).await?;
        }
        // A chunk size that was only loaded keeps the time when it was learned.
        if let Some(size) = chunk_size.filter(|size| Some(*size) != self.saved_chunk_size) {
            queue.save_learned_chunk_size(self.app, size, now_ms).await?;
            self.saved_chunk_size = Some(size);
        }
        Ok(())
    }
}

impl<C: Clock, T: Transport> ActiveRun<C, T> {
    pub(super) async fn load_learned_limits(&mut self) -> Result<(), QueueError> {
        let queue = &self.queue.queue;
        if let Some(rate) = self.learned.load_rate(queue).await? {
            self.limiter.begin_with(&rate);
        }
        if let Some(size) = self.learned.load_chunk_size(queue, self.clock.wall_ms()).await? {
            self.chunks.begin_with(size);
        }
        self.learned.save_at = self.clock.now() + SAVE_INTERVAL;
        Ok(())
    }

    pub(super) async fn save_learned_limits_periodically(&mut self) -> Result<(), QueueError> {
        if !self.learned.take_due(self.clock.now()) {
            return Ok(());
        }
        self.queue.commit().await?;
        self.save_learned_limits().await
    }

    pub(super) async fn save_learned_limits(&mut self) -> Result<(), QueueError> {
        let now_ms = self.clock.wall_ms();
        let (rate, size) = (self.limiter.learned(), self.chunks.learned_chunk_size());
        self.learned.save(&self.queue.queue, rate, size, now_ms).await
    }

    /// Keeps the first request of this run a second after the last one of an earlier run, and sets the time
    /// by which the waits that earlier runs recorded for jobs are over.
    ///
    /// The second starts at `last_sent_ms`, the latest moment at which the last request can have left. If the
    /// wall clock was set back since, the run waits for the whole second.
    pub(super) fn respect_previous_run(&mut self, last_sent_ms: Option<i64>) {
        self.status.free_jobs_due_by = self.clock.now() + DUE_WITHIN;
        let Some(last) = last_sent_ms else { return };
        let since = self.clock.wall_ms().saturating_sub(last);
        let since = if since < 0 { 0 } else { since.min(RATE_WINDOW_MS) };
        let wait = Duration::from_millis(u64::try_from(RATE_WINDOW_MS - since).unwrap_or(0));
        self.limiter.not_before(self.clock.now() + wait);
    }
}
