//! Selects the jobs that a run would send, and marks those that an approval covers.
//!
//! The caller owns the transaction and holds the run lock. Under that lock a job in flight belongs to a
//! run that died, so it counts as a job to be sent.

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use crate::domain::job::{JobState, TargetStatus};
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::{ApprovalId, Context as _, Covers, QueueError};

/// The jobs of app ?1 that a run would send, as `job`: every open job that is the latest of its
/// question and was not cancelled in flight. The subqueries use the indexes and the requests that lead
/// to open jobs and few others. The unary plus keeps the engine from building an automatic index of all
/// jobs.
const TO_BE_SENT: &str = "
    FROM (SELECT id FROM jobs WHERE app_id = ?1 AND target_status IN (4, 5, 6) AND state = 'pending' AND reserved_by_run_id IS NULL
          UNION ALL SELECT id FROM jobs WHERE reserved_by_run_id IS NOT NULL AND state = 'pending' AND app_id = ?1
          UNION ALL SELECT jobs.id FROM requests CROSS JOIN jobs ON jobs.request_id = requests.id AND jobs.state = 'in_flight'
            WHERE requests.verdict IS NULL AND +app_id = ?1) AS open
    CROSS JOIN jobs AS job ON job.id = open.id
    WHERE job.is_latest AND NOT job.cancel_requested";

/// Selects target status, question, batch and whether in doubt of each job to be sent, ordered by
/// question.
pub(in crate::queue) fn survey() -> String {
    format!(
        "SELECT job.target_status, job.question_id, job.batch_id,
                job.state = 'in_flight' OR EXISTS (
                  SELECT 1 FROM doubts WHERE doubts.question_id = job.question_id AND doubts.app_id = job.app_id
                    AND doubts.open = 1) AS is_in_doubt {TO_BE_SENT}
         ORDER BY job.question_id"
    )
}

/// Marks the jobs to be sent that `covers` selects as covered by the approval, and moves their
/// counters.
pub(in crate::queue) async fn approve(
    connection: &mut SqliteConnection,
    app_id: i64,
    covers: Covers,
    approval: ApprovalId,
) -> Result<(), QueueError> {
    const CONTEXT: &str = "record an approval";
    let covered = TargetStatus::ALL.into_iter().filter(|status| covers.is_about(*status));
    let covered: Vec<String> = covered.map(|status| status.code().to_string()).collect();
    let covered = format!("{TO_BE_SENT} AND job.target_status IN ({})", covered.join(", "));
    let by_counter = format!(
        "SELECT job.batch_id, job.target_status, coalesce(job.approval_id, 0),
                count(*) FILTER (WHERE job.state = 'pending'), count(*) FILTER (WHERE job.state = 'in_flight')
         {covered} GROUP BY 1, 2, 3"
    );
    let by_counter = sqlx::query(AssertSqlSafe(by_counter)).bind(app_id);
    let rows = by_counter.fetch_all(&mut *connection).await.context(CONTEXT)?;
    let mark = format!("UPDATE jobs SET approval_id = ?2 WHERE id IN (SELECT job.id {covered})");
    let mark = sqlx::query(AssertSqlSafe(mark)).bind(app_id).bind(approval);
    mark.execute(&mut *connection).await.context(CONTEXT)?;
    let mut deltas = CounterDeltas::default();
    for row in rows {
        let from = CounterKey::read(&row, 0).context(CONTEXT)?;
        let to = CounterKey { approval, ..from };
        let (pending, in_flight): (i64, i64) =
            (row.try_get(3).context(CONTEXT)?, row.try_get(4).context(CONTEXT)?);
        for (state, jobs) in [(JobState::Pending, pending), (JobState::InFlight, in_flight)] {
            deltas.add(from, Counter::State(state), -jobs);
            deltas.add(to, Counter::State(state), jobs);
        }
        uncover(connection, from.approval, pending + in_flight).await?;
    }
    deltas.apply(connection, 0).await
}

/// Records that an approval no longer covers `jobs` of its jobs. An approval of 0 is none and has no
/// row.
pub(in crate::queue) async fn uncover(
    connection: &mut SqliteConnection,
    approval: ApprovalId,
    jobs: i64,
) -> Result<(), QueueError> {
    sqlx::query("UPDATE approvals SET uncovered = uncovered + ? WHERE id = ?")
        .bind(jobs)
        .bind(approval)
        .execute(connection)
        .await
        .map(drop)
        .context("record the jobs of an approval")
}
