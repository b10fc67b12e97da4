//! What a run waits for, noted in its row so that other processes can say it.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::queue::{Context as _, Queue, QueueError, RunId};

/// What a run can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// The service asked to slow down.
    SlowDown,
    /// Nothing gets through.
    Outage,
    /// The answers to its last requests: it ends.
    Answers,
}

impl WaitsFor {
    const ALL: [Self; 3] = [Self::SlowDown, Self::Outage, Self::Answers];

    /// The word in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowDown => "slow_down",
            Self::Outage => "outage",
            Self::Answers => "answers",
        }
    }
}

/// A run's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Wait {
    /// For what.
    pub waits_for: WaitsFor,
    /// Since when that holds, in UTC milliseconds.
    pub since_ms: i64,
    /// Until when at least, in UTC milliseconds. What comes then is a try.
    pub until_ms: i64,
}

impl Queue {
    /// Notes what `run` waits for; `None`: it does not wait any more.
    ///
    /// # Errors
    /// [`QueueError::TakenOver`] when the run has been ended, or when the queue file cannot be
    /// written.
    pub async fn note_wait(&self, run: RunId, wait: Option<Wait>) -> Result<(), QueueError> {
        let mut tx = self.write("note a wait").await?;
        let noted = sqlx::query(
            "UPDATE runs SET wait_reason = ?, wait_since_ms = ?, wait_until_ms = ? WHERE id = ? AND ending IS NULL",
        )
        .bind(wait.map(|wait| wait.waits_for.name()))
        .bind(wait.map(|wait| wait.since_ms.max(0)))
        .bind(wait.map(|wait| wait.until_ms.max(0)))
        .bind(run)
        .execute(&mut *tx)
        .await
        .context("note a wait")?;
        tx.commit().await.context("note a wait")?;
        if noted.rows_affected() == 0 { Err(QueueError::TakenOver { run }) } else { Ok(()) }
    }
}

/// The wait in the columns from `at` on; none for a run that has ended.
pub(in crate::queue) fn read_wait(row: &SqliteRow, at: usize) -> Result<Option<Wait>, sqlx::Error> {
    let name: Option<&str> = row.try_get(at)?;
    let Some(waits_for) = WaitsFor::ALL.into_iter().find(|kind| Some(kind.name()) == name) else {
        return Ok(None);
    };
    let (since_ms, until_ms): (Option<i64>, Option<i64>) =
        (row.try_get(at + 1)?, row.try_get(at + 2)?);
    let since_ms = since_ms.unwrap_or_default();
    Ok(Some(Wait { waits_for, since_ms, until_ms: until_ms.unwrap_or(since_ms) }))
}
