//! The learned rate and the learned chunk size of each app.

use std::time::Duration;

use crate::domain::job::App;
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::queue::read::row_helpers::{flatten, from_row, integer};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{AppChunkSize, AppRate, Context as _, QueueError};

/// How long a learned chunk size is valid. The service may accept more later, and measuring again costs
/// a few requests.
const CHUNK_SIZE_VALID_FOR: Duration = Duration::from_hours(30 * 24);

from_row!(AppRate { app = flatten, learned = flatten, learned_ms });

from_row!(LearnedRate {
    rate,
    throttled_rate,
    arrival_jitter_ms,
    arrival_jitter_log_sd,
    min_spacing_probability,
});

from_row!(AppChunkSize { app = flatten, limit = flatten, learned_ms });

from_row!(LearnedChunkSize { accepted = integer, rejected = integer });

impl SqliteQueue {
    pub(in crate::queue) async fn learned_rates(&self) -> Result<Vec<AppRate>, QueueError> {
        sqlx::query_as(
            "SELECT sdkappid, library, rate, throttled_rate, arrival_jitter_ms, arrival_jitter_log_sd,
                    min_spacing_probability, learned_ms
             FROM learned_rates JOIN apps ON apps.id = app_id ORDER BY app_id",
        )
        .fetch_all(&self.readers)
        .await
        .context("read the learned rates")
    }

    pub(in crate::queue) async fn learned_rate(
        &self,
        app: App,
    ) -> Result<Option<AppRate>, QueueError> {
        Ok(self.learned_rates().await?.into_iter().find(|rate| rate.app == app))
    }

    pub(in crate::queue) async fn learned_chunk_sizes(
        &self,
        now_ms: i64,
    ) -> Result<Vec<AppChunkSize>, QueueError> {
        let valid_ms = i64::try_from(CHUNK_SIZE_VALID_FOR.as_millis()).unwrap_or(i64::MAX);
        sqlx::query_as(
            "SELECT sdkappid, library, accepted, rejected, learned_ms
             FROM learned_chunk_sizes JOIN apps ON apps.id = app_id
             WHERE learned_ms BETWEEN $1 - $2 AND $1 + $2 ORDER BY app_id",
        )
        .bind(now_ms)
        .bind(valid_ms)
        .fetch_all(&self.readers)
        .await
        .context("read the learned chunk sizes")
    }

    pub(in crate::queue) async fn learned_chunk_size(
        &self,
        app: App,
        now_ms: i64,
    ) -> Result<Option<AppChunkSize>, QueueError> {
        Ok(self.learned_chunk_sizes(now_ms).await?.into_iter().find(|size| size.app == app))
    }
}
