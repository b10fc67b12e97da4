//! The endpoint that the jobs of an app were sent to.
//!
//! Outcomes are true for one service only. The queue records the endpoint of each app, so that a
//! command can refuse to mix the outcomes of two services, such as the sandbox and the real one.

use crate::domain::job::App;
use crate::queue::read::row_helpers::sdkappid;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::sqlite::import::app_id;
use crate::queue::{Context as _, QueueError, RunId};

impl SqliteQueue {
    pub(in crate::queue) async fn set_endpoint(
        &self,
        app: App,
        endpoint: &str,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "record the endpoint";
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

    pub(in crate::queue) async fn restore_endpoint(
        &self,
        app: App,
        run: RunId,
        earlier: Option<&str>,
    ) -> Result<(), QueueError> {
        const CONTEXT: &str = "record the endpoint";
        let mut tx = self.write(CONTEXT).await?;
        sqlx::query(
            "UPDATE apps SET endpoint = ? WHERE sdkappid = ? AND library = ?
               AND NOT EXISTS (SELECT 1 FROM runs WHERE id = ? AND evaluated_requests + responses_lost > 0)",
        )
        .bind(earlier)
        .bind(sdkappid(app))
        .bind(app.library.name())
        .bind(run)
        .execute(&mut *tx)
        .await
        .context(CONTEXT)?;
        tx.commit().await.context(CONTEXT)
    }
}
