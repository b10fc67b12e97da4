//! Questions in doubt. A question is in doubt while a request may have changed it whose response was
//! lost or was an unexplained rejection, and no later response has settled that.
//!
//! Doubts are stored by question and target status, so that they outlive the cancel, the later import,
//! the retry and the prune of the job that was sent. Only the latest job of the question counts as in
//! doubt. That a response of a job was once lost is its history, and a column of the job.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::domain::job::JobId;
use crate::queue::sqlite::connection::json;
use crate::queue::{Context as _, DUE_WITHIN, QueueError, RunId};

/// How long a request can still be applied after its response was given up, in milliseconds: the time
/// that a gateway may keep it. No longer than the longest wait of a job.
pub(in crate::queue) const UNDER_WAY_MAX_MS: i64 = 30_000;
const _: () = assert!(DUE_WITHIN.as_millis() >= 30_000);

const CONTEXT: &str = "record the questions in doubt";

/// Puts questions in doubt: followed by the rows, then by [`AGAIN`].
const NOTE: &str = "INSERT INTO doubts (question_id, app_id, target_status, open, lost, late_ms)";

/// Merges with an earlier doubt about the same question and target status.
const AGAIN: &str = "ON CONFLICT DO UPDATE SET open = 1, late_ms = max(late_ms, excluded.late_ms),
    lost = max(open * lost, excluded.lost)";

/// Delays pending jobs while an earlier request for the same question, with another target status, can
/// still be applied. Its one value is the time. Starts from the few requests that can still be applied,
/// so that the engine reads no other job.
const HOLD_BACK: &str = "
    UPDATE jobs SET not_before_ms = (SELECT max(late_ms) FROM doubts WHERE doubts.question_id = jobs.question_id
                                AND doubts.app_id = jobs.app_id AND doubts.target_status <> jobs.target_status)
    WHERE id IN (SELECT job.id FROM doubts CROSS JOIN jobs AS job
                   ON job.question_id = doubts.question_id AND job.app_id = doubts.app_id AND job.is_latest
                 WHERE doubts.late_ms > ? AND job.state = 'pending' AND job.reserved_by_run_id IS NULL
                   AND job.target_status <> doubts.target_status AND job.not_before_ms < doubts.late_ms)";

/// The response of a request with these jobs was lost: it may have been applied, or may be applied
/// later.
pub(in crate::queue) async fn note_lost(
    connection: &mut SqliteConnection,
    jobs: &[JobId],
    now_ms: i64,
) -> Result<(), QueueError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, target_status, 1, 1, ? FROM jobs
         WHERE id IN (SELECT value FROM json_each(?)) {AGAIN}"
    );
    let late_ms = now_ms.saturating_add(UNDER_WAY_MAX_MS);
    let note = sqlx::query(AssertSqlSafe(note)).bind(late_ms).bind(json(jobs));
    note.execute(&mut *connection).await.context(CONTEXT)?;
    hold_back(connection, now_ms).await
}

/// What became of these jobs is proved: their questions are no longer in doubt.
pub(in crate::queue) async fn settle(
    connection: &mut SqliteConnection,
    jobs: &[JobId],
    now_ms: i64,
) -> Result<(), QueueError> {
    sqlx::query(
        "UPDATE doubts SET open = 0 WHERE open = 1 AND (question_id, app_id) IN (
           SELECT question_id, app_id FROM jobs WHERE id IN (SELECT value FROM json_each(?)))",
    )
    .bind(json(jobs))
    .execute(&mut *connection)
    .await
    .context(CONTEXT)?;
    forget_settled(connection, now_ms).await
}

/// Deletes settled doubts that delay no job.
async fn forget_settled(connection: &mut SqliteConnection, now_ms: i64) -> Result<(), QueueError> {
    let over = sqlx::query("DELETE FROM doubts WHERE open = 0 AND late_ms <= ?").bind(now_ms);
    over.execute(connection).await.map(drop).context(CONTEXT)
}

/// The longest time that a run waits for a response, in milliseconds: the maximum of `--timeout`.
const TIMEOUT_MAX_MS: i64 = 600_000;

/// Puts every question in flight in doubt: the responses are lost, and were given up at `now_ms` at the
/// latest. Call it before the requests are closed, since only open requests lead to these jobs.
pub(in crate::queue) async fn note_orphans(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(), QueueError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, jobs.target_status, 1, 1, min(?1, scheduled_ms + ?2) + ?3 FROM requests
           CROSS JOIN jobs ON jobs.request_id = requests.id AND jobs.state = 'in_flight'
         WHERE requests.verdict IS NULL {AGAIN}"
    );
    let note = sqlx::query(AssertSqlSafe(note)).bind(now_ms).bind(TIMEOUT_MAX_MS);
    let noted = note.bind(UNDER_WAY_MAX_MS).execute(connection).await;
    noted.map(drop).context(CONTEXT)
}

/// The request of this job was rejected but may have been applied. Its response came, so it cannot be
/// applied later.
pub(in crate::queue) async fn note_job(
    connection: &mut SqliteConnection,
    job: JobId,
) -> Result<(), QueueError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, target_status, 1, 0, 0 FROM jobs WHERE id = ? {AGAIN}"
    );
    let noted = sqlx::query(AssertSqlSafe(note)).bind(job).execute(connection).await;
    noted.map(drop).context(CONTEXT)
}

/// Puts pending jobs in doubt that were rejected in a chunk and will not be sent again, since they are
/// cancelled or superseded. A lost response has put jobs in doubt already. Call it while the jobs are
/// pending. `jobs` is a condition with the value ?1.
pub(in crate::queue) async fn note_withdrawn<'v>(
    connection: &mut SqliteConnection,
    jobs: &str,
    value: impl sqlx::Encode<'v, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + 'v,
) -> Result<(), QueueError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, target_status, 1, 0, 0 FROM jobs
         WHERE {jobs} AND state = 'pending' AND rejected_in_chunk = 1 {AGAIN}"
    );
    let noted = sqlx::query(AssertSqlSafe(note)).bind(value).execute(connection).await;
    noted.map(drop).context(CONTEXT)
}

/// Puts the pending jobs of the apps of `run` and of open runs in doubt: any of them may have been
/// sent. Returns how many jobs these are.
pub(in crate::queue) async fn note_pending(
    connection: &mut SqliteConnection,
    run: RunId,
    now_ms: i64,
) -> Result<u64, QueueError> {
    const PENDING: &str =
        "state = 'pending' AND app_id IN (SELECT app_id FROM runs WHERE ending IS NULL OR id = ?)";
    let note = format!(
        "{NOTE} SELECT question_id, app_id, target_status, 1, 1, ? FROM jobs WHERE {PENDING} {AGAIN}"
    );
    let noted =
        sqlx::query(AssertSqlSafe(note)).bind(now_ms.saturating_add(UNDER_WAY_MAX_MS)).bind(run);
    noted.execute(&mut *connection).await.context(CONTEXT)?;
    let lost = format!("UPDATE jobs SET response_lost = 1 WHERE {PENDING}");
    let lost =
        sqlx::query(AssertSqlSafe(lost)).bind(run).execute(connection).await.context(CONTEXT)?;
    Ok(lost.rows_affected())
}

/// Delays pending jobs while an earlier request for their question can still be applied.
pub(in crate::queue) async fn hold_back(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(), QueueError> {
    let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM doubts WHERE late_ms > ?)")
        .bind(now_ms)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    if !any {
        return Ok(());
    }
    sqlx::query(HOLD_BACK).bind(now_ms).execute(connection).await.map(drop).context(CONTEXT)
}

/// Deletes settled doubts that delay no job, and limits delays that only a clock set back can have
/// made.
pub(in crate::queue) async fn tidy(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(), QueueError> {
    let over = "UPDATE doubts SET late_ms = ?1 + ?2 WHERE late_ms > ?1 + ?2";
    let bounded = sqlx::query(over).bind(now_ms).bind(UNDER_WAY_MAX_MS).execute(&mut *connection);
    bounded.await.context(CONTEXT)?;
    forget_settled(connection, now_ms).await
}
