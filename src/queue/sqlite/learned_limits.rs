//! The learned rate and the learned chunk size of each app.
//!
//! A run records what it has measured, and the next run of the app starts with it. A learned chunk size
//! expires after a month, since the service may accept more by then.

use crate::domain::job::App;
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::import::app_id;
use crate::queue::{Context as _, QueueError};

impl SqliteQueue {
    pub(in crate::queue) async fn save_learned_rate(
        &self,
        app: App,
        learned: &LearnedRate,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("save the learned rate").await?;
        let app_id = app_id(&mut tx, app).await?;
        sqlx::query(
            "INSERT INTO learned_rates (app_id, learned_ms, rate, throttled_rate, arrival_jitter_ms, arrival_jitter_log_sd, min_spacing_probability)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET
               learned_ms = excluded.learned_ms, rate = excluded.rate, throttled_rate = excluded.throttled_rate,
               arrival_jitter_ms = excluded.arrival_jitter_ms, arrival_jitter_log_sd = excluded.arrival_jitter_log_sd, min_spacing_probability = excluded.min_spacing_probability",
        )
        .bind(app_id)
        .bind(now_ms.max(0))
        .bind(learned.rate)
        .bind(learned.throttled_rate)
        .bind(learned.arrival_jitter_ms)
        .bind(learned.arrival_jitter_log_sd)
        .bind(learned.min_spacing_probability)
        .execute(&mut *tx)
        .await
        .context("save the learned rate")?;
        tx.commit().await.context("save the learned rate")
    }

    pub(in crate::queue) async fn save_learned_chunk_size(
        &self,
        app: App,
        limit: LearnedChunkSize,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("save the learned chunk size").await?;
        let app_id = app_id(&mut tx, app).await?;
        sqlx::query(
            "INSERT INTO learned_chunk_sizes (app_id, learned_ms, accepted, rejected) VALUES (?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET learned_ms = excluded.learned_ms, accepted = excluded.accepted,
               rejected = excluded.rejected",
        )
        .bind(app_id)
        .bind(now_ms.max(0))
        .bind(i64::try_from(limit.accepted).unwrap_or(i64::MAX - 1))
        .bind(i64::try_from(limit.rejected).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await
        .context("save the learned chunk size")?;
        tx.commit().await.context("save the learned chunk size")
    }
}
