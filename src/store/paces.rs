//! What runs have learned of the service's pace.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::import::app_id;
use super::{Doing as _, Store, StoreError};
use crate::gate::Learned;
use crate::job::App;

/// What was learned for an app, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptPace {
    /// For which app and library.
    pub app: App,
    /// The figures.
    pub learned: Learned,
    /// When they were noted, in UTC milliseconds.
    pub learned_ms: i64,
}

impl Store {
    /// Keeps what a run of `app` has learned, in place of what was kept before.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn keep_pace(
        &self,
        app: App,
        learned: &Learned,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write("keep the pace").await?;
        let app_id = app_id(&mut tx, app).await?;
        sqlx::query(
            "INSERT INTO paces (app_id, learned_ms, rate, refused_rate, spread_ms, spread_doubt, spaced)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (app_id) DO UPDATE SET
               learned_ms = excluded.learned_ms, rate = excluded.rate, refused_rate = excluded.refused_rate,
               spread_ms = excluded.spread_ms, spread_doubt = excluded.spread_doubt, spaced = excluded.spaced",
        )
        .bind(app_id)
        .bind(now_ms.max(0))
        .bind(learned.rate)
        .bind(learned.refused_rate)
        .bind(learned.spread_ms)
        .bind(learned.spread_doubt)
        .bind(learned.spaced)
        .execute(&mut *tx)
        .await
        .doing("keep the pace")?;
        tx.commit().await.doing("keep the pace")
    }

    /// What was learned, for every app that has runs.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn paces(&self) -> Result<Vec<KeptPace>, StoreError> {
        sqlx::query(
            "SELECT apps.sdkappid, apps.library, paces.* FROM paces JOIN apps ON apps.id = paces.app_id
             ORDER BY paces.app_id",
        )
        .fetch_all(&self.readers)
        .await
        .doing("read the paces")?
        .iter()
        .map(kept_pace)
        .collect()
    }

    /// What was learned for `app`, if anything was.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn pace(&self, app: App) -> Result<Option<KeptPace>, StoreError> {
        Ok(self.paces().await?.into_iter().find(|kept| kept.app == app))
    }
}

fn kept_pace(row: &SqliteRow) -> Result<KeptPace, StoreError> {
    let doing = "read the paces";
    let row_id: i64 = row.try_get("app_id").doing(doing)?;
    let impossible =
        |reason: String| StoreError::Impossible { table: "paces", row: row_id, reason };
    let library: String = row.try_get("library").doing(doing)?;
    let sdkappid: i64 = row.try_get("sdkappid").doing(doing)?;
    let learned = Learned {
        rate: row.try_get("rate").doing(doing)?,
        refused_rate: row.try_get("refused_rate").doing(doing)?,
        spread_ms: row.try_get("spread_ms").doing(doing)?,
        spread_doubt: row.try_get("spread_doubt").doing(doing)?,
        spaced: row.try_get("spaced").doing(doing)?,
    };
    Ok(KeptPace {
        app: App {
            sdkappid: u64::try_from(sdkappid).map_err(|e| impossible(e.to_string()))?,
            library: library.parse().map_err(impossible)?,
        },
        learned,
        learned_ms: row.try_get("learned_ms").doing(doing)?,
    })
}
