//! The learned rate and the learned chunk size of each app.
//!
//! A run records what it has measured, and the next run of the app starts with it. A learned chunk size
//! expires after a month, since the service may accept more by then.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::domain::job::App;
use crate::domain::learned::{LearnedChunkSize, LearnedRate};
use crate::queue::read::row_helpers::app;
use crate::queue::sqlite::import::app_id;
use crate::queue::{Context as _, Queue, QueueError};

/// The learned rate of an app.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppRate {
    pub app: App,
    /// The measured values.
    pub learned: LearnedRate,
    /// The time of the measurement, in UTC milliseconds.
    pub learned_ms: i64,
}

/// How long a learned chunk size is valid. The service may accept more later, and measuring again costs
/// a few requests.
const SIZE_HOLDS: Duration = Duration::from_hours(30 * 24);

/// The learned chunk size of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppChunkSize {
    pub app: App,
    /// The measured limit.
    pub limit: LearnedChunkSize,
    /// The time of the measurement, in UTC milliseconds.
    pub learned_ms: i64,
}

impl Queue {
    /// Records the learned rate of `app`, replacing the previous one.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn save_learned_rate(
        &self,
        app: App,
        learned: &LearnedRate,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("keep the pace").await?;
        let app_id = app_id(&mut tx, app).await?;
        sqlx::query(
            "INSERT INTO learned_rates (app_id, learned_ms, rate, refused_rate, arrival_jitter_ms, arrival_jitter_log_sd, min_spacing_probability)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET
               learned_ms = excluded.learned_ms, rate = excluded.rate, refused_rate = excluded.refused_rate,
               arrival_jitter_ms = excluded.arrival_jitter_ms, arrival_jitter_log_sd = excluded.arrival_jitter_log_sd, min_spacing_probability = excluded.min_spacing_probability",
        )
        .bind(app_id)
        .bind(now_ms.max(0))
        .bind(learned.rate)
        .bind(learned.refused_rate)
        .bind(learned.arrival_jitter_ms)
        .bind(learned.arrival_jitter_log_sd)
        .bind(learned.min_spacing_probability)
        .execute(&mut *tx)
        .await
        .context("keep the pace")?;
        tx.commit().await.context("keep the pace")
    }

    /// The learned rate of every app that has one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn learned_rates(&self) -> Result<Vec<AppRate>, QueueError> {
        sqlx::query(
            "SELECT apps.sdkappid, apps.library, learned_rates.* FROM learned_rates JOIN apps ON apps.id = learned_rates.app_id
             ORDER BY learned_rates.app_id",
        )
        .fetch_all(&self.readers)
        .await
        .context("read the paces")?
        .iter()
        .map(kept_pace)
        .collect()
    }

    /// The learned rate of `app`, if there is one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn pace(&self, app: App) -> Result<Option<AppRate>, QueueError> {
        Ok(self.learned_rates().await?.into_iter().find(|kept| kept.app == app))
    }

    /// Records the learned chunk size of `app`, replacing the previous one.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn save_learned_chunk_size(
        &self,
        app: App,
        limit: LearnedChunkSize,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("keep the size").await?;
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
        .context("keep the size")?;
        tx.commit().await.context("keep the size")
    }

    /// The learned chunk size of every app, where it was measured in the month before `now_ms`.
    ///
    /// # Errors
    /// When the queue file cannot be read or has an impossible row.
    pub async fn sizes(&self, now_ms: i64) -> Result<Vec<AppChunkSize>, QueueError> {
        let holds_ms = i64::try_from(SIZE_HOLDS.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(
            "SELECT apps.sdkappid, apps.library, learned_chunk_sizes.* FROM learned_chunk_sizes
             JOIN apps ON apps.id = learned_chunk_sizes.app_id
             WHERE learned_ms BETWEEN ?1 - ?2 AND ?1 + ?2 ORDER BY learned_chunk_sizes.app_id",
        )
        .bind(now_ms)
        .bind(holds_ms)
        .fetch_all(&self.readers)
        .await
        .context("read the sizes")?
        .iter()
        .map(kept_size)
        .collect()
    }

    /// The valid learned chunk size of `app`, if there is one.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn size(&self, app: App, now_ms: i64) -> Result<Option<AppChunkSize>, QueueError> {
        Ok(self.sizes(now_ms).await?.into_iter().find(|kept| kept.app == app))
    }
}

fn kept_pace(row: &SqliteRow) -> Result<AppRate, QueueError> {
    let doing = "read the paces";
    let learned = LearnedRate {
        rate: row.try_get("rate").context(doing)?,
        refused_rate: row.try_get("refused_rate").context(doing)?,
        arrival_jitter_ms: row.try_get("arrival_jitter_ms").context(doing)?,
        arrival_jitter_log_sd: row.try_get("arrival_jitter_log_sd").context(doing)?,
        min_spacing_probability: row.try_get("min_spacing_probability").context(doing)?,
    };
    let learned_ms = row.try_get("learned_ms").context(doing)?;
    Ok(AppRate { app: app_of("learned_rates", row)?, learned, learned_ms })
}

fn kept_size(row: &SqliteRow) -> Result<AppChunkSize, QueueError> {
    let jobs = |column: &str| -> Result<usize, QueueError> {
        let jobs: i64 = row.try_get(column).context("read the sizes")?;
        usize::try_from(jobs).map_err(|e| QueueError::Impossible {
            table: "learned_chunk_sizes",
            row: row.try_get("app_id").unwrap_or_default(),
            reason: format!("{column} {jobs}: {e}"),
        })
    };
    let limit = LearnedChunkSize { accepted: jobs("accepted")?, rejected: jobs("rejected")? };
    let learned_ms = row.try_get("learned_ms").context("read the sizes")?;
    Ok(AppChunkSize { app: app_of("learned_chunk_sizes", row)?, limit, learned_ms })
}

/// The app of a row of `table`, which begins with the app's two columns.
fn app_of(table: &'static str, row: &SqliteRow) -> Result<App, QueueError> {
    app(row, 0, table, row.try_get("app_id").context("read what was learned")?)
}
