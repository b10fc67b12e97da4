//! The beginning and the end of a run.

use std::time::Duration;

use sqlx::SqliteConnection;

use crate::domain::job::App;
use crate::queue::sqlite::import::app_id;
use crate::queue::sqlite::{SqliteQueue, doubts};
use crate::queue::{Context as _, DUE_WITHIN, Lease, QueueError, RunEnding, RunId};

impl SqliteQueue {
    pub(in crate::queue) async fn begin_run(
        &self,
        lease: &Lease,
        now_ms: i64,
    ) -> Result<RunId, QueueError> {
        const CONTEXT: &str = "begin a run";
        let mut tx = self.write(CONTEXT).await?;
        let app_id = app_id(&mut tx, lease.app()).await?;
        forget_waits(&mut tx, app_id, now_ms.saturating_add(millis(DUE_WITHIN))).await?;
        doubts::tidy(&mut tx, now_ms).await?;
        doubts::hold_back(&mut tx, now_ms).await?;
        let recorded =
            sqlx::query("INSERT INTO runs (app_id, host, pid, started_ms) VALUES (?, ?, ?, ?)")
                .bind(app_id)
                .bind(&lease.holder().host)
                .bind(i64::from(lease.holder().pid))
                .bind(now_ms)
                .execute(&mut *tx)
                .await
                .context(CONTEXT)?;
        tx.commit().await.context(CONTEXT)?;
        // From here on, a copy of the file alone has every job, and shows that a run has begun.
        self.writer.checkpoint_wal(CONTEXT).await?;
        let run = recorded.last_insert_rowid();
        self.begin_sending(lease.run_lock(), run, now_ms);
        Ok(run)
    }

    pub(in crate::queue) async fn clear_waits(
        &self,
        app: App,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "clear due times";
        let mut tx = self.write(CONTEXT).await?;
        let app_id = app_id(&mut tx, app).await?;
        forget_waits(&mut tx, app_id, now_ms).await?;
        tx.commit().await.context(CONTEXT)
    }

    pub(in crate::queue) async fn end_run(
        &self,
        run: RunId,
        ending: RunEnding,
        now_ms: i64,
    ) -> Result<(), QueueError> {
        let mut tx = self.write("end a run").await?;
        sqlx::query("UPDATE jobs SET reserved_by_run_id = NULL WHERE reserved_by_run_id = ? AND state = 'pending'")
            .bind(run)
            .execute(&mut *tx)
            .await
            .context("release reserved jobs")?;
        let done = sqlx::query(
            "UPDATE runs SET finished_ms = max(?, started_ms), ending = ?, wait_reason = NULL WHERE id = ? AND ending IS NULL",
        )
        .bind(now_ms)
        .bind(ending.name())
        .bind(run)
        .execute(&mut *tx)
        .await
        .context("end a run")?;
        tx.commit().await.context("end a run")?;
        if done.rows_affected() == 0 { Err(QueueError::TakenOver { run }) } else { Ok(()) }
    }
}

/// Makes free jobs that are due after `latest_ms` due at once.
async fn forget_waits(
    connection: &mut SqliteConnection,
    app_id: i64,
    latest_ms: i64,
) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE jobs SET not_before_ms = 0 WHERE app_id = ? AND target_status IN (4, 5, 6) AND state = 'pending'
           AND reserved_by_run_id IS NULL AND not_before_ms > ?",
    )
    .bind(app_id)
    .bind(latest_ms)
    .execute(connection)
    .await
    .map(drop)
    .context("clear due times")
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
