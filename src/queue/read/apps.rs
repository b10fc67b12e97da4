//! What the queue knows of an app.

use crate::domain::job::App;
use crate::queue::read::row_helpers::sdkappid;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{Context as _, QueueError};

impl SqliteQueue {
    pub(in crate::queue) async fn endpoint(&self, app: App) -> Result<Option<String>, QueueError> {
        let found: Option<Option<String>> =
            sqlx::query_scalar("SELECT endpoint FROM apps WHERE sdkappid = $1 AND library = $2")
                .bind(sdkappid(app))
                .bind(app.library.name())
                .fetch_optional(&self.readers)
                .await
                .context("read the endpoint")?;
        Ok(found.flatten())
    }
}
