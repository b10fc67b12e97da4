//! Jobs that were superseded or cancelled while they were in flight.
//!
//! Their request decides: an outcome is recorded as usual. If the request is requeued, they continue to
//! their new state instead of becoming pending. Relies on the caller's transaction.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use crate::domain::job::{JobId, JobState};
use crate::queue::sqlite::connection::json;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::job_counters::{CounterDeltas, CounterKey};
use crate::queue::{Context as _, QueueError};

/// `pending → superseded | cancelled` for those of the requeued jobs `returned` that a later import
/// covers or whose batch was cancelled. Returns how many there were.
pub(in crate::queue) async fn drop_withdrawn(
    connection: &mut SqliteConnection,
    returned: &[JobId],
    now_ms: i64,
) -> Result<u64, QueueError> {
    const CONTEXT: &str = "withdraw jobs";
    const WITHDRAWN: &str = "id IN (SELECT value FROM json_each(?1)) AND state = 'pending'
        AND (NOT is_latest OR cancel_requested)";
    let returned = json(returned);
    doubts::note_withdrawn(connection, WITHDRAWN, &returned).await?;
    let drop = format!(
        "UPDATE jobs SET state = iif(NOT is_latest, 'superseded', 'cancelled'), reserved_by_run_id = NULL,
                not_before_ms = 0, cancel_requested = 0, finished_ms = ?2
         WHERE {WITHDRAWN} RETURNING state, batch_id, target_status, coalesce(approval_id, 0)"
    );
    let rows = sqlx::query(AssertSqlSafe(drop))
        .bind(&returned)
        .bind(now_ms)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
    let mut deltas = CounterDeltas::default();
    for row in &rows {
        let is_superseded =
            row.try_get::<&str, _>(0).context(CONTEXT)? == JobState::Superseded.name();
        let state = if is_superseded { JobState::Superseded } else { JobState::Cancelled };
        deltas.move_jobs(CounterKey::read(row, 1).context(CONTEXT)?, JobState::Pending, state, 1);
    }
    deltas.apply(connection, now_ms).await?;
    Ok(rows.len() as u64)
}
