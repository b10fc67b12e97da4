//! Pruning: the jobs of finished batches leave the queue, with the requests and runs that
//! nothing refers to any more.
//!
//! Only whole batches, and only those in which nothing is open and everything was finished
//! long enough ago. A batch is marked first, in the transaction that looks at all of its
//! jobs; from then on nobody takes one of them back, and they go in slices, so that a run
//! beside it never waits long. Cut short, it is gone on with by the next one.

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::claim::json;
use super::metrics::count_pruned;
use super::open::is_busy;
use super::{BatchId, Doing as _, RequestId, Store, StoreError, tell_busy};

/// Jobs deleted by one transaction.
const SLICE_JOBS: i64 = 20_000;

/// What was dropped, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Batches that lost their jobs.
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

    /// Drops the jobs of every batch that was imported and wholly finished before `before_ms`;
    /// its manifest stays known. What is dropped has no outcome to report any more.
    ///
    /// # Errors
    /// When the queue file cannot be written.
    pub async fn prune(&self, before_ms: i64, now_ms: i64) -> Result<Pruned, StoreError> {
        // What refers to the deleted is deleted too, or never was: to have the engine prove
        // it would look through all jobs for every request.
        let options = (*self.writer.connect_options()).clone().foreign_keys(false);
        let mut connection =
            SqliteConnection::connect_with(&options).await.doing("open its file")?;
        turn(&mut connection).await?;
        let old = old_batches(&mut connection, before_ms).await?;
        mark(&mut connection, &old, now_ms).await?;
        commit(&mut connection).await?;
        for old in &old {
            drop_jobs(&mut connection, old).await?;
        }
        turn(&mut connection).await?;
        let requests = drop_unused(&mut connection, before_ms).await?;
        commit(&mut connection).await?;
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
         WHERE (pruned_ms IS NULL AND created_ms < ?1 AND coalesce(finished < ?1, 1))
            OR (pruned_ms IS NOT NULL AND n > 0)
         ORDER BY batches.id",
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

/// Begins a transaction of a write, however long another process writes. Dropped with its
/// connection, it leaves nothing behind.
async fn turn(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    loop {
        match sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await {
            Err(e) if is_busy(&e) => tell_busy("drop old batches"),
            begun => return begun.map(drop).doing("drop old batches"),
        }
    }
}

async fn commit(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("COMMIT").execute(connection).await.map(drop).doing("drop old batches")
}

async fn mark(
    connection: &mut SqliteConnection,
    old: &[Old],
    now_ms: i64,
) -> Result<(), StoreError> {
    let batches: Vec<BatchId> = old.iter().map(|old| old.batch).collect();
    sqlx::query(
        "UPDATE batches SET pruned_ms = ? WHERE pruned_ms IS NULL AND id IN (SELECT value FROM json_each(?))",
    )
    .bind(now_ms.max(0))
    .bind(json(&batches))
    .execute(connection)
    .await
    .map(drop)
    .doing("mark old batches")
}

/// The jobs of a batch have numbers close together, since an import is one transaction.
async fn drop_jobs(connection: &mut SqliteConnection, old: &Old) -> Result<(), StoreError> {
    let Some((first, last)) = old.span else { return Ok(()) };
    let mut from = first;
    while from <= last {
        let to = last.min(from.saturating_add(SLICE_JOBS - 1));
        turn(connection).await?;
        sqlx::query("DELETE FROM jobs WHERE id BETWEEN ? AND ? AND batch_id = ?")
            .bind(from)
            .bind(to)
            .bind(old.batch)
            .execute(&mut *connection)
            .await
            .doing("drop old jobs")?;
        commit(connection).await?;
        from = to + 1;
    }
    Ok(())
}

/// Drops what no job needs any more. The newest run stays with all its requests: its figures
/// are told, and its searches may refer to them. So does the newest request of all, from which
/// the next run counts its first slot.
async fn drop_unused(connection: &mut SqliteConnection, before_ms: i64) -> Result<u64, StoreError> {
    let unused: Vec<RequestId> = sqlx::query_scalar(
        "SELECT id FROM requests WHERE answered_ms < ? AND id < (SELECT max(id) FROM requests)
           AND run_id < (SELECT max(id) FROM runs)
           AND id NOT IN (SELECT request_id FROM jobs WHERE request_id IS NOT NULL)",
    )
    .bind(before_ms)
    .fetch_all(&mut *connection)
    .await
    .doing("look for old requests")?;
    // Counters that others watch go up only.
    count_pruned(connection, &unused).await?;
    let requests = sqlx::query("DELETE FROM requests WHERE id IN (SELECT value FROM json_each(?))")
        .bind(json(&unused))
        .execute(&mut *connection)
        .await
        .doing("drop old requests")?;
    sqlx::query(
        "DELETE FROM runs WHERE finished_ms < ? AND id < (SELECT max(id) FROM runs)
           AND id NOT IN (SELECT run_id FROM requests)
           AND id NOT IN (SELECT held_by FROM jobs WHERE held_by IS NOT NULL)",
    )
    .bind(before_ms)
    .execute(&mut *connection)
    .await
    .doing("drop old runs")?;
    Ok(requests.rows_affected())
}
