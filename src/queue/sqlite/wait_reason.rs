//! Wait reasons: why a run sends nothing now.
//!
//! The run records its reason in its own row, so that other processes, such as `status`, can show it. A
//! run that has ended has no wait reason.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::queue::sqlite::SqliteQueue;
use crate::queue::{Context as _, QueueError, RunId, Wait};

impl SqliteQueue {
    pub(in crate::queue) async fn set_wait(
        &self,
        run: RunId,
        wait: Option<Wait>,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("record the wait reason").await?;
        let noted = sqlx::query(
            "UPDATE runs SET wait_reason = ?, wait_since_ms = ?, wait_until_ms = ? WHERE id = ? AND ending IS NULL",
        )
        .bind(wait.map(|wait| wait.reason.name()))
        .bind(wait.map(|wait| wait.since_ms.max(0)))
        .bind(wait.map(|wait| wait.until_ms.max(0)))
        .bind(run)
        .execute(&mut *tx)
        .await
        .context("record the wait reason")?;
        tx.commit().await.context("record the wait reason")?;
        if noted.rows_affected() == 0 { Err(QueueError::TakenOver { run }) } else { Ok(()) }
    }
}

/// Reads the columns `wait_reason`, `wait_since_ms` and `wait_until_ms`; `None` for a run that sends or has
/// ended.
pub(in crate::queue) fn read_wait(row: &SqliteRow, _: &str) -> Result<Option<Wait>, sqlx::Error> {
    let Some(reason) = row.try_get("wait_reason")? else { return Ok(None) };
    let since_ms: i64 = row.try_get::<Option<_>, _>("wait_since_ms")?.unwrap_or_default();
    let until_ms: Option<i64> = row.try_get("wait_until_ms")?;
    Ok(Some(Wait { reason, since_ms, until_ms: until_ms.unwrap_or(since_ms) }))
}
