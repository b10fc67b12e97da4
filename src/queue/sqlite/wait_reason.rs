//! Wait reasons: why a run sends nothing now.
//!
//! The run records its reason in its own row, so that other processes, such as `status`, can show it. A
//! run that has ended has no wait reason.

use std::str::FromStr;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::queue::{Context as _, Queue, QueueError, RunId};

/// A wait reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// The service pushed back.
    SlowDown,
    /// No request gets through.
    Outage,
    /// The run ends and waits for the responses to its last requests.
    Answers,
}

impl WaitReason {
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

impl FromStr for WaitReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|reason| reason.name() == text);
        known.ok_or_else(|| format!("not a wait reason: {text}"))
    }
}

/// The wait of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Wait {
    /// The reason.
    pub waits_for: WaitReason,
    /// The beginning of the wait, in UTC milliseconds.
    pub since_ms: i64,
    /// The earliest end of the wait, in UTC milliseconds. The run then sends a probe.
    pub until_ms: i64,
}

impl Queue {
    /// Records the wait of `run`; `None` ends it.
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

/// Reads the columns `wait_reason`, `wait_since_ms` and `wait_until_ms`; `None` for a run that sends or has
/// ended.
pub(in crate::queue) fn read_wait(row: &SqliteRow, _: &str) -> Result<Option<Wait>, sqlx::Error> {
    let Some(waits_for) = row.try_get("wait_reason")? else { return Ok(None) };
    let since_ms: i64 = row.try_get::<Option<_>, _>("wait_since_ms")?.unwrap_or_default();
    let until_ms: Option<i64> = row.try_get("wait_until_ms")?;
    Ok(Some(Wait { waits_for, since_ms, until_ms: until_ms.unwrap_or(since_ms) }))
}
