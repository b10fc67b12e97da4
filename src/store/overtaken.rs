//! Jobs in flight that a newer import or a cancel has overtaken: they go on to `superseded` or
//! `cancelled` when their request brings them back. Relies on the caller's transaction.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::tallies::{Change, Shares, Tally, change_all, read_tally};
use super::write::json;
use super::{Doing as _, StoreError, doubts};
use crate::domain::job::{JobId, JobState};

/// Jobs in flight, of `these`, that a newer import or a cancel has overtaken.
pub(super) fn overtaken_sql(these: &str) -> String {
    format!(
        "SELECT batch_id, status, coalesce(approval_id, 0), id, newest = 0 FROM jobs
         WHERE {these} AND state = 'in_flight'
           AND (newest = 0 OR EXISTS (SELECT 1 FROM batches WHERE id = batch_id AND cancelled_ms IS NOT NULL))"
    )
}

/// A job in flight that a newer import or a cancel has overtaken.
pub(super) struct Overtaken {
    id: JobId,
    tally: Tally,
    /// Whether by an import.
    superseded: bool,
}

/// Those in flight in any request.
pub(super) async fn all_overtaken(
    connection: &mut SqliteConnection,
) -> Result<Vec<Overtaken>, StoreError> {
    const DOING: &str = "look for overtaken jobs";
    let overtaken = overtaken_sql("id IN (SELECT job FROM in_flight)");
    let rows = sqlx::query(AssertSqlSafe(overtaken)).fetch_all(connection).await.doing(DOING)?;
    read_overtaken(&rows).doing(DOING)
}

pub(super) fn read_overtaken(rows: &[SqliteRow]) -> Result<Vec<Overtaken>, sqlx::Error> {
    let read = |row: &SqliteRow| {
        let (id, superseded) = (row.try_get(3)?, row.try_get(4)?);
        Ok(Overtaken { id, tally: read_tally(row, 0)?, superseded })
    };
    rows.iter().map(read).collect()
}

/// `pending → superseded | cancelled` for `overtaken` jobs that were just returned.
pub(super) async fn drop_overtaken(
    connection: &mut SqliteConnection,
    overtaken: &[Overtaken],
    now_ms: i64,
) -> Result<(), StoreError> {
    for (superseded, state) in [(true, JobState::Superseded), (false, JobState::Cancelled)] {
        let jobs = overtaken.iter().filter(|job| job.superseded == superseded);
        let ids: Vec<JobId> = jobs.clone().map(|job| job.id).collect();
        if ids.is_empty() {
            continue;
        }
        sqlx::query(doubts::withdrawn("id IN (SELECT value FROM json_each(?))"))
            .bind(json(&ids))
            .execute(&mut *connection)
            .await
            .doing("note what is in doubt")?;
        sqlx::query(
            "UPDATE jobs SET state = ?, held_by = NULL, due_ms = 0, finished_ms = ?
             WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'",
        )
        .bind(state.name())
        .bind(now_ms)
        .bind(json(&ids))
        .execute(&mut *connection)
        .await
        .doing("drop overtaken jobs")?;
        let mut shares = Shares::new();
        for job in jobs {
            *shares.entry(job.tally).or_default() += 1;
        }
        change_all(connection, &shares, |jobs| Change {
            finished_ms: now_ms,
            ..Change::moved(JobState::Pending, state, jobs)
        })
        .await?;
    }
    Ok(())
}
