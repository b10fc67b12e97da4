//! What is in doubt: a question is, while a request may have changed it whose response was lost, or
//! was a rejection that stays unexplained, and nothing since has settled that.
//!
//! Kept by question and target status, so that it outlives the cancel, the later import, the retry
//! and the prune of the job that was sent. The question's latest job carries it: that job alone is
//! in doubt. That a response of a job was lost once is its history, and a column of the job.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::carried::OfJobs;
use super::rows::count as figure;
use super::runs::DUE_WITHIN;
use super::{BatchId, Doing as _, RunId, StoreError};
use crate::domain::job::JobId;

/// The longest that a request can still be applied after its response was given up, in
/// milliseconds: what a gateway may keep it waiting. No longer than a job may have to wait.
pub(super) const UNDER_WAY_MAX_MS: i64 = 30_000;
const _: () = assert!(DUE_WITHIN.as_millis() >= 30_000);

const DOING: &str = "note what is in doubt";

/// The condition that a row of `jobs` is in doubt.
pub(super) const IN_DOUBT: &str = "(newest = 1 AND EXISTS (SELECT 1 FROM doubts
    WHERE doubts.question_id = jobs.question_id AND doubts.app_id = jobs.app_id AND doubts.open = 1))";

/// What a claim has to know of a row of `job`: 0, nothing has been in doubt about its question;
/// 1, something has; 2, a request for the same target status has lost its response, and nothing has
/// settled that.
pub(super) const DOUBT_OF_JOB: &str = "coalesce((
    SELECT max(1 + (doubts.open = 1 AND doubts.lost = 1 AND doubts.status = job.status)) FROM doubts
    WHERE doubts.question_id = job.question_id AND doubts.app_id = job.app_id), 0)";

/// In doubt from now on: the rows that follow, then [`AGAIN`].
const NOTE: &str = "INSERT INTO doubts (question_id, app_id, status, open, lost, late_ms)";

/// The same question was in doubt for the same status before.
const AGAIN: &str = "ON CONFLICT DO UPDATE SET open = 1, late_ms = max(late_ms, excluded.late_ms),
    lost = max(open * lost, excluded.lost)";

/// Jobs that may not leave yet, although they are pending: an older request for the question, with
/// another target status, can still be applied. Its one value is the time. Driven by the few
/// requests that can, so that no other job is looked at.
const HOLD_BACK: &str = "
    UPDATE jobs SET due_ms = (SELECT max(late_ms) FROM doubts WHERE doubts.question_id = jobs.question_id
                                AND doubts.app_id = jobs.app_id AND doubts.status <> jobs.status)
    WHERE id IN (SELECT job.id FROM doubts CROSS JOIN jobs AS job
                   ON job.question_id = doubts.question_id AND job.app_id = doubts.app_id AND job.newest = 1
                 WHERE doubts.late_ms > ? AND job.state = 'pending' AND job.held_by IS NULL
                   AND job.status <> doubts.status AND job.due_ms < doubts.late_ms)";

/// The jobs of a request whose response was lost. Two values beside the jobs: until when it can be
/// applied, and the time.
pub(super) static NOTED: LazyLock<OfJobs> = LazyLock::new(|| {
    OfJobs::new(|these| {
        format!(
            "{NOTE} SELECT question_id, app_id, status, 1, 1, ? FROM jobs WHERE {these} {AGAIN};
             {HOLD_BACK}"
        )
    })
});

/// The jobs of a request that was applied: whatever was in doubt about their questions is settled.
/// Beside the jobs, its one value is the time.
pub(super) static SETTLED: LazyLock<OfJobs> = LazyLock::new(|| {
    OfJobs::new(|these| {
        format!(
            "UPDATE doubts SET open = 0 WHERE open = 1
               AND (question_id, app_id) IN (SELECT question_id, app_id FROM jobs WHERE {these});
             DELETE FROM doubts WHERE open = 0 AND late_ms <= ?"
        )
    })
});

/// Everything in flight, whose responses will never be known here; to be called before the requests
/// end, by which they are found.
pub(super) async fn note_orphans(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, jobs.status, 1, 1, slot_ms + ? FROM in_flight
           CROSS JOIN jobs ON jobs.id = in_flight.job JOIN requests ON requests.id = in_flight.request
         WHERE true {AGAIN}"
    );
    let noted = sqlx::query(AssertSqlSafe(note)).bind(UNDER_WAY_MAX_MS).execute(connection).await;
    noted.map(drop).doing(DOING)
}

/// A job whose request was rejected and may have been applied all the same: its response came, so
/// nothing is under way any more.
pub(super) async fn note_job(
    connection: &mut SqliteConnection,
    job: JobId,
) -> Result<(), StoreError> {
    let note = format!(
        "{NOTE} SELECT question_id, app_id, status, 1, 0, 0 FROM jobs WHERE id = ? {AGAIN}"
    );
    let noted = sqlx::query(AssertSqlSafe(note)).bind(job).execute(connection).await;
    noted.map(drop).doing(DOING)
}

/// What is in doubt about pending jobs that will not be sent again, as they are cancelled or
/// superseded: those that were sent before came back by a lost response, which is noted, or by a
/// rejection of their whole chunk. To be called while they are pending. Its values are those of
/// `these`.
pub(super) fn withdrawn(these: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "{NOTE} SELECT question_id, app_id, status, 1, 0, 0 FROM jobs
         WHERE {these} AND state = 'pending' AND attempts > 0 {AGAIN}"
    ))
}

/// A job that is done by what its last request has shown.
pub(super) async fn settle_job(
    connection: &mut SqliteConnection,
    job: JobId,
) -> Result<(), StoreError> {
    let settle = "UPDATE doubts SET open = 0
        WHERE (question_id, app_id) IN (SELECT question_id, app_id FROM jobs WHERE id = ?)";
    sqlx::query(settle).bind(job).execute(connection).await.map(drop).doing(DOING)
}

/// What waits for the apps of `run` and of runs without an end: any of it may have been sent. Says
/// how many jobs that are.
pub(super) async fn note_pending(
    connection: &mut SqliteConnection,
    run: RunId,
    now_ms: i64,
) -> Result<u64, StoreError> {
    const PENDING: &str =
        "state = 'pending' AND app_id IN (SELECT app_id FROM runs WHERE ending IS NULL OR id = ?)";
    let note = format!(
        "{NOTE} SELECT question_id, app_id, status, 1, 1, ? FROM jobs WHERE {PENDING} {AGAIN}"
    );
    let noted =
        sqlx::query(AssertSqlSafe(note)).bind(now_ms.saturating_add(UNDER_WAY_MAX_MS)).bind(run);
    noted.execute(&mut *connection).await.doing(DOING)?;
    let lost = format!("UPDATE jobs SET response_lost = 1 WHERE {PENDING}");
    let lost = sqlx::query(AssertSqlSafe(lost)).bind(run).execute(connection).await.doing(DOING)?;
    Ok(lost.rows_affected())
}

/// Lets pending jobs wait while an older request for their question can still be applied.
pub(super) async fn hold_back(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(), StoreError> {
    let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM doubts WHERE late_ms > ?)")
        .bind(now_ms)
        .fetch_one(&mut *connection)
        .await
        .doing(DOING)?;
    if !any {
        return Ok(());
    }
    sqlx::query(HOLD_BACK).bind(now_ms).execute(connection).await.map(drop).doing(DOING)
}

/// Forgets what is settled and over, and waits that only a clock set back since can have made.
pub(super) async fn tidy(connection: &mut SqliteConnection, now_ms: i64) -> Result<(), StoreError> {
    let over = "UPDATE doubts SET late_ms = ?1 + ?2 WHERE late_ms > ?1 + ?2";
    let bounded = sqlx::query(over).bind(now_ms).bind(UNDER_WAY_MAX_MS).execute(&mut *connection);
    bounded.await.doing(DOING)?;
    sqlx::query("DELETE FROM doubts WHERE open = 0 AND late_ms <= ?")
        .bind(now_ms)
        .execute(connection)
        .await
        .map(drop)
        .doing(DOING)
}

/// What a prune forgets with the jobs that it drops; what an open or later job is there for
/// stays. Its values are those of the prune's own statements.
pub(super) const PRUNED: &str = "
    DELETE FROM doubts WHERE (question_id, app_id) IN
      (SELECT question_id, app_id FROM jobs WHERE id BETWEEN ?1 AND ?2 AND batch_id = ?3 AND newest = 1)";

/// How many jobs are in doubt: all, those of an app, or those of a batch.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    app_id: Option<i64>,
    batch: Option<BatchId>,
) -> Result<u64, StoreError> {
    const DOING: &str = "count what is in doubt";
    let row = sqlx::query(
        "SELECT count(*) FROM (SELECT DISTINCT question_id, app_id FROM doubts WHERE open = 1) AS doubt
         CROSS JOIN jobs ON jobs.question_id = doubt.question_id AND jobs.app_id = doubt.app_id AND newest = 1
         WHERE (?1 IS NULL OR jobs.app_id = ?1) AND (?2 IS NULL OR batch_id = ?2)",
    )
    .bind(app_id)
    .bind(batch)
    .fetch_one(connection)
    .await
    .doing(DOING)?;
    figure(&row, 0).doing(DOING)
}
