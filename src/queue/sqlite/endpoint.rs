//! Which service an app's jobs were sent to: what is recorded is true of that one and of no other.

use crate::domain::job::App;
use crate::queue::sqlite::import::app_id;
use crate::queue::{Context as _, Queue, QueueError, RunId};

impl Queue {
    /// The endpoint that the jobs of `app` were sent to; `None` when none was sent yet.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn endpoint_of(&self, app: App) -> Result<Option<String>, QueueError> {
        let found: Option<Option<String>> =
            sqlx::query_scalar("SELECT endpoint FROM apps WHERE sdkappid = ? AND library = ?")
                .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
                .bind(app.library.name())
                .fetch_optional(&self.readers)
                .await
                .context("find its endpoint")?;
        Ok(found.flatten())
    }

    /// Notes where the jobs of `app` are sent from now on.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn note_endpoint(&self, app: App, endpoint: &str) -> Result<(), QueueError> {
        const CONTEXT: &str = "note its endpoint";
        let mut tx = self.write(CONTEXT).await?;
        let id = app_id(&mut tx, app).await?;
        sqlx::query("UPDATE apps SET endpoint = ? WHERE id = ?")
            .bind(endpoint)
            .bind(id)
            .execute(&mut *tx)
            .await
            .context(CONTEXT)?;
        tx.commit().await.context(CONTEXT)
    }

    /// Notes `earlier` again if `run` has reached nothing where it sent: then nothing is recorded that
    /// could be true of that service alone.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn forget_endpoint(
        &self,
        app: App,
        run: RunId,
        earlier: Option<&str>,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "note its endpoint";
        let mut tx = self.write(CONTEXT).await?;
        sqlx::query(
            "UPDATE apps SET endpoint = ? WHERE sdkappid = ? AND library = ?
               AND NOT EXISTS (SELECT 1 FROM runs WHERE id = ? AND evaluated_requests + responses_lost > 0)",
        )
        .bind(earlier)
        .bind(i64::try_from(app.sdkappid).unwrap_or(i64::MAX))
        .bind(app.library.name())
        .bind(run)
        .execute(&mut *tx)
        .await
        .context(CONTEXT)?;
        tx.commit().await.context(CONTEXT)
    }
}
