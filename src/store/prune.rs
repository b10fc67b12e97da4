//! Pruning: finished batches leave the queue, with the requests and runs that nothing
//! refers to any more.
//!
//! Only whole batches, and only those in which nothing is open and everything was finished
//! long enough ago. In slices, each a transaction of its own, so that a run beside it never
//! waits long; cut short, it is gone on with by the next one.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::claim::json;
use super::{BatchId, Doing as _, Store, StoreError};

/// Jobs deleted by one transaction.
const SLICE_JOBS: i64 = 20_000;

/// What was dropped, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Batches.
    pub batches: u64,
    /// Their jobs.
    pub jobs: u64,
    /// Requests that no job refers to any more; 0 where nothing was dropped yet.
    pub requests: u64,
}

/// A batch to be dropped: its number, and the first and last of its jobs, if it has any.
struct Old {
    batch: BatchId,
    jobs: i64,
    span: Option<(i64, i64)>,
}

impl Store {
    /// What [`Store::prune`] would drop.
    ///
    /// # Errors
    /// When the queue file cannot be read.
    pub async fn prunable(&self, before_ms: i64) -> Result<Pruned, StoreError> {
        let mut reader = self.readers.acquire().await.doing("look for old batches")?;
        let old = old_batches(&mut reader, before_ms).await?;
        Ok(sum(&old))
    }

    /// Drops every batch that was imported and wholly finished before `before_ms`. The same
    /// manifest makes a new batch afterwards, and a question is known by its newer jobs alone.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn prune(&self, before_ms: i64) -> Result<Pruned, StoreError> {
        // What refers to the deleted is deleted too, or never was: to have the engine prove
        // it would look through all jobs for every request.
        let options = (*self.writer.connect_options()).clone().foreign_keys(false);
        let mut connection =
            SqliteConnection::connect_with(&options).await.doing("open its file")?;
        let old = old_batches(&mut connection, before_ms).await?;
        for old in &old {
            drop_jobs(&mut connection, old).await?;
        }
        let batches: Vec<BatchId> = old.iter().map(|old| old.batch).collect();
        let requests = drop_unused(&mut connection, &batches, before_ms).await?;
        connection.close().await.doing("close its file")?;
        Ok(Pruned { requests, ..sum(&old) })
    }
}

fn sum(old: &[Old]) -> Pruned {
    let jobs: i64 = old.iter().map(|old| old.jobs).sum();
    Pruned { batches: old.len() as u64, jobs: u64::try_from(jobs).unwrap_or_default(), requests: 0 }
}

async fn old_batches(
    connection: &mut SqliteConnection,
    before_ms: i64,
) -> Result<Vec<Old>, StoreError> {
    let doing = "look for old batches";
    // One look at all jobs: an open job has no finish, and keeps its batch.
    let rows = sqlx::query(
        "SELECT batches.id, coalesce(n, 0), first, last FROM batches
         LEFT JOIN (SELECT batch_id, count(*) AS n, min(id) AS first, max(id) AS last,
                           max(coalesce(finished_ms, ?1)) AS finished
                    FROM jobs GROUP BY batch_id) ON batch_id = batches.id
         WHERE created_ms < ?1 AND coalesce(finished < ?1, 1) ORDER BY batches.id",
    )
    .bind(before_ms)
    .fetch_all(connection)
    .await
    .doing(doing)?;
    rows.iter()
        .map(|row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
            Ok(Old { batch: row.try_get(0)?, jobs: row.try_get(1)?, span: first.zip(last) })
        })
        .collect::<Result<_, sqlx::Error>>()
        .doing(doing)
}

/// The jobs of a batch have numbers close together, since an import is one transaction.
async fn drop_jobs(connection: &mut SqliteConnection, old: &Old) -> Result<(), StoreError> {
    let Some((first, last)) = old.span else { return Ok(()) };
    let mut from = first;
    while from <= last {
        let to = last.min(from.saturating_add(SLICE_JOBS - 1));
        // A job may have been taken back meanwhile (`retry`): it stays, and its batch.
        sqlx::query(
            "DELETE FROM jobs WHERE id BETWEEN ? AND ? AND batch_id = ? AND finished_ms IS NOT NULL",
        )
        .bind(from)
        .bind(to)
        .bind(old.batch)
        .execute(&mut *connection)
        .await
        .doing("drop old jobs")?;
        from = to + 1;
    }
    Ok(())
}

/// Drops the rows of `batches` that have no jobs left, and what no job needs any more. The
/// newest request and the newest run stay: the next run counts its slots from them.
async fn drop_unused(
    connection: &mut SqliteConnection,
    batches: &[BatchId],
    before_ms: i64,
) -> Result<u64, StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.doing("drop old batches")?;
    sqlx::query(
        "DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?))
           AND id NOT IN (SELECT batch_id FROM jobs)",
    )
    .bind(json(batches))
    .execute(&mut *tx)
    .await
    .doing("drop old batches")?;
    let requests = sqlx::query(
        "DELETE FROM requests WHERE answered_ms < ? AND id < (SELECT max(id) FROM requests)
           AND id NOT IN (SELECT request_id FROM jobs WHERE request_id IS NOT NULL)",
    )
    .bind(before_ms)
    .execute(&mut *tx)
    .await
    .doing("drop old requests")?;
    sqlx::query(
        "DELETE FROM runs WHERE finished_ms < ? AND id < (SELECT max(id) FROM runs)
           AND id NOT IN (SELECT run_id FROM requests)
           AND id NOT IN (SELECT held_by FROM jobs WHERE held_by IS NOT NULL)",
    )
    .bind(before_ms)
    .execute(&mut *tx)
    .await
    .doing("drop old runs")?;
    tx.commit().await.doing("drop old batches")?;
    Ok(requests.rows_affected())
}
