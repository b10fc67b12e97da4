//! Applies an import to the queue, with a few statements for many rows, in the import's transaction.
//!
//! Questions come in random order, so the index of questions is the expensive part: a row costs one
//! page of it. If the new rows are many compared with the existing jobs, older jobs are found by a scan
//! of the jobs instead. The index of questions and that of claims are then dropped and rebuilt from all
//! rows, each by one sort, before the commit. Relies on `staging.rs` for the rows.

use std::borrow::Cow;
use std::fmt;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use crate::domain::job::{JobId, JobState, TargetStatus};
use crate::queue::sqlite::connection::json;
use crate::queue::sqlite::doubts;
use crate::queue::sqlite::job_counters::{Counter, CounterDeltas, CounterKey};
use crate::queue::{BatchId, Context as _, QueueError};

/// An import of fewer rows never rebuilds the indexes.
const REBUILD_ROWS_MIN: i64 = 20_000;

/// The most existing jobs per new row for which the indexes are rebuilt: inserting a row into an index
/// that exceeds the memory costs about as much as sorting this many.
const REBUILD_JOBS_PER_ROW_MAX: i64 = 8;

/// Jobs read by one statement.
const PAGE_ROWS: i64 = 10_000;

/// What the import does with the indexes that take every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum IndexStrategy {
    /// It inserts the rows one by one.
    Keep,
    /// It drops them and rebuilds them from all rows.
    Rebuild,
    /// Like `Rebuild`, but for an import that will be rolled back: the index of questions is not rebuilt.
    Defer,
}

/// Tests whether the import names a question.
pub(in crate::queue) struct Questions(pub(in crate::queue) Box<dyn Fn(&str) -> bool + Send + Sync>);

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Questions")
    }
}

/// How older jobs of the same questions are found.
#[derive(Debug)]
enum SupersededLookup {
    /// The queue is empty.
    Nothing,
    /// By a scan of all latest jobs.
    Jobs(Questions),
    /// By the index of questions.
    Index,
}

/// How an import handles the indexes and the search for older jobs.
#[derive(Debug)]
pub(in crate::queue) struct Index {
    strategy: IndexStrategy,
    search: SupersededLookup,
    /// Name and statement of each dropped index.
    dropped: Vec<(String, String)>,
}

impl Index {
    /// Chooses the cheaper way for this number of `rows`. `questions` tests membership, if known. A
    /// `dry_run` is always rolled back.
    pub(in crate::queue) async fn choose(
        connection: &mut SqliteConnection,
        rows: u64,
        questions: Option<Questions>,
        dry_run: bool,
    ) -> Result<Self, QueueError> {
        const CONTEXT: &str = "read the size of the queue";
        let there = sqlx::query_scalar("SELECT coalesce(sum(jobs), 0) FROM job_counters");
        let there: i64 = there.fetch_one(&mut *connection).await.context(CONTEXT)?;
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let many =
            rows >= REBUILD_ROWS_MIN && rows.saturating_mul(REBUILD_JOBS_PER_ROW_MAX) >= there;
        let search = match questions {
            _ if there == 0 => SupersededLookup::Nothing,
            Some(questions) if many => SupersededLookup::Jobs(questions),
            _ => SupersededLookup::Index,
        };
        let strategy = match many {
            false => IndexStrategy::Keep,
            true if dry_run => IndexStrategy::Defer,
            true => IndexStrategy::Rebuild,
        };
        Ok(Self { strategy, search, dropped: Vec::new() })
    }
}

/// Replaces the latest jobs of the staged questions: `pending → superseded`; jobs in any other state
/// keep it. A job in flight is superseded if it comes back without an outcome, and a failed job stays
/// failed. Returns how many were superseded. Drops the indexes that will be rebuilt.
pub(in crate::queue) async fn supersede_older(
    connection: &mut SqliteConnection,
    app_id: i64,
    now_ms: i64,
    index: &mut Index,
) -> Result<u64, QueueError> {
    run(connection, "CREATE TEMP TABLE older (id INTEGER PRIMARY KEY)").await?;
    let found = match &index.search {
        SupersededLookup::Nothing => 0,
        SupersededLookup::Jobs(questions) => find_among_jobs(connection, app_id, questions).await?,
        SupersededLookup::Index => find_by_index(connection, app_id).await?,
    };
    let shares = if found == 0 { Vec::new() } else { older_shares(connection).await? };
    if index.strategy != IndexStrategy::Keep {
        index.dropped = drop_indexes(connection).await?;
    }
    if found == 0 {
        return Ok(0);
    }
    doubts::note_withdrawn(
        connection,
        "?1 IS NULL AND id IN (SELECT id FROM temp.older)",
        None::<i64>,
    )
    .await?;
    let superseded = unchecked(
        connection,
        sqlx::query(
            "UPDATE jobs SET state = 'superseded', reserved_by_run_id = NULL, is_latest = 0, finished_ms = ?
             WHERE id IN (SELECT id FROM temp.older) AND state = 'pending'",
        )
        .bind(now_ms.max(0)),
    )
    .await
    .context("supersede older jobs")?;
    sqlx::query(
        "UPDATE jobs SET is_latest = 0 WHERE id IN (SELECT id FROM temp.older) AND is_latest",
    )
    .execute(&mut *connection)
    .await
    .context("supersede older jobs")?;
    let mut deltas = CounterDeltas::default();
    for (key, pending, failed) in shares {
        deltas.move_jobs(key, JobState::Pending, JobState::Superseded, pending);
        deltas.add(key, Counter::FailedSuperseded, failed);
    }
    deltas.apply(connection, now_ms).await?;
    Ok(superseded.rows_affected())
}

/// Runs a statement for many rows without CHECK constraints. Its values are constants or were checked
/// before, and a second check takes longer than the rest.
async fn unchecked(
    connection: &mut SqliteConnection,
    statement: Query<'_, Sqlite, SqliteArguments>,
) -> Result<SqliteQueryResult, sqlx::Error> {
    let ignore = |on| AssertSqlSafe(format!("PRAGMA ignore_check_constraints = {on}"));
    sqlx::raw_sql(ignore("ON")).execute(&mut *connection).await?;
    let done = statement.execute(&mut *connection).await;
    sqlx::raw_sql(ignore("OFF")).execute(connection).await?;
    done
}

/// Finds the latest jobs of the staged questions. Reads the index once from end to end, in the order of
/// the questions, and writes the jobs in the order of their ids.
async fn find_by_index(connection: &mut SqliteConnection, app_id: i64) -> Result<u64, QueueError> {
    // A subquery would sort row by row.
    run(connection, "CREATE INDEX temp.staged_question ON staged (question_id)").await?;
    let found = sqlx::query(
        "INSERT INTO temp.older SELECT job.id FROM temp.staged AS staged INDEXED BY staged_question
         CROSS JOIN jobs AS job ON job.question_id = staged.question_id AND job.app_id = ? AND job.is_latest
         ORDER BY job.id",
    )
    .bind(app_id)
    .execute(connection)
    .await
    .context("find older jobs of the same questions")?;
    Ok(found.rows_affected())
}

/// Does the same by a scan of all latest jobs.
async fn find_among_jobs(
    connection: &mut SqliteConnection,
    app_id: i64,
    questions: &Questions,
) -> Result<u64, QueueError> {
    const CONTEXT: &str = "find older jobs of the same questions";
    let (mut after, mut found) = (0, 0);
    loop {
        // One JSON value per page is faster than one row per job.
        let page: String = sqlx::query_scalar(
            "SELECT json_group_array(json_array(id, question_id)) FROM (
               SELECT id, question_id FROM jobs WHERE id > ? AND app_id = ? AND is_latest ORDER BY id LIMIT ?)",
        )
        .bind(after)
        .bind(app_id)
        .bind(PAGE_ROWS)
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
        let page: Vec<(JobId, Cow<str>)> = serde_json::from_str(&page)
            .map_err(|e| sqlx::Error::Decode(e.into()))
            .context(CONTEXT)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = *last;
        let older: Vec<JobId> = page
            .iter()
            .filter(|(_, question)| (questions.0)(question))
            .map(|(id, _)| *id)
            .collect();
        found += older.len() as u64;
        sqlx::query("INSERT INTO temp.older SELECT value FROM json_each(?)")
            .bind(json(&older))
            .execute(&mut *connection)
            .await
            .context(CONTEXT)?;
    }
}

/// How many of the older jobs are pending, and how many failed, by counter key.
async fn older_shares(
    connection: &mut SqliteConnection,
) -> Result<Vec<(CounterKey, i64, i64)>, QueueError> {
    const CONTEXT: &str = "count older jobs";
    let rows = sqlx::query(
        "SELECT batch_id, target_status, coalesce(approval_id, 0), count(*) FILTER (WHERE state = 'pending'),
                count(*) FILTER (WHERE state = 'failed')
         FROM temp.older CROSS JOIN jobs ON jobs.id = older.id GROUP BY 1, 2, 3",
    )
    .fetch_all(connection)
    .await
    .context(CONTEXT)?;
    rows.iter()
        .map(|row| Ok((CounterKey::read(row, 0)?, row.try_get(3)?, row.try_get(4)?)))
        .collect::<Result<_, sqlx::Error>>()
        .context(CONTEXT)
}

/// Writes the staged rows as jobs of the batch, with their counters.
pub(in crate::queue) async fn insert(
    connection: &mut SqliteConnection,
    app_id: i64,
    batch: BatchId,
    by_status: [u64; 3],
    index: &Index,
) -> Result<(), QueueError> {
    let written = unchecked(
        connection,
        sqlx::query(
            "INSERT INTO jobs (batch_id, app_id, line, question_id, target_status)
             SELECT ?, ?, line, question_id, target_status FROM temp.staged ORDER BY rowid",
        )
        .bind(batch)
        .bind(app_id),
    )
    .await
    .context("write the jobs of an import")?;
    let mut deltas = CounterDeltas::default();
    for (status, jobs) in TargetStatus::ALL.into_iter().zip(by_status) {
        let key = CounterKey { batch, target_status: status.code(), approval: 0 };
        let jobs = i64::try_from(jobs).unwrap_or(i64::MAX);
        deltas.add(key, Counter::State(JobState::Pending), jobs);
    }
    deltas.apply(connection, 0).await?;
    if written.rows_affected() > 0 {
        // The ids are consecutive.
        let rows = i64::try_from(written.rows_affected()).unwrap_or(i64::MAX);
        sqlx::query("UPDATE batches SET first_job = ?1 - ?2 + 1, last_job = ?1 WHERE id = ?3")
            .bind(written.last_insert_rowid())
            .bind(rows)
            .bind(batch)
            .execute(&mut *connection)
            .await
            .context("write the job counters")?;
    }
    for (name, create) in &index.dropped {
        // A dry run needs no index of questions.
        if index.strategy == IndexStrategy::Rebuild || name != LATEST {
            run(connection, create.clone()).await?;
        }
    }
    Ok(())
}

/// The index of questions, which enforces one latest job for each question.
const LATEST: &str = "jobs_latest";

/// Drops the indexes that take every row. Returns their names and the statements that create them.
async fn drop_indexes(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, String)>, QueueError> {
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND name IN (?, 'jobs_claim')",
    )
    .bind(LATEST)
    .fetch_all(&mut *connection)
    .await
    .context("write the jobs of an import")?;
    for (name, _) in &indexes {
        run(connection, format!("DROP INDEX {name}")).await?;
    }
    Ok(indexes)
}

async fn run(connection: &mut SqliteConnection, sql: impl Into<String>) -> Result<(), QueueError> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(connection)
        .await
        .map(drop)
        .context("write the jobs of an import")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::SqliteQueue;

    #[tokio::test]
    async fn large_import_rebuilds_index_unless_dry_run() {
        let folder = tempfile::tempdir().unwrap();
        let queue = SqliteQueue::open(&folder.path().join("queue.db")).await.unwrap();
        let mut tx = queue.write("test").await.unwrap();
        for (rows, dry_run, strategy) in [
            (1, true, IndexStrategy::Keep),
            (1, false, IndexStrategy::Keep),
            (20_000, true, IndexStrategy::Defer),
            (20_000, false, IndexStrategy::Rebuild),
        ] {
            let questions = Questions(Box::new(|_| false));
            let index = Index::choose(&mut tx, rows, Some(questions), dry_run).await.unwrap();
            assert_eq!(index.strategy, strategy, "{rows} {dry_run}");
        }
    }
}
