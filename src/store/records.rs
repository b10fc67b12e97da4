//! Records: the queue's jobs one after the other, for reports. Streams; holds one row.

use futures_util::{Stream, StreamExt as _};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{BatchId, Doing as _, RunId, Store, StoreError};
use crate::job::{JobId, JobState, Status};

/// A job with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The job's number.
    pub id: JobId,
    /// The question.
    pub question_id: String,
    /// What it shall become.
    pub status: Status,
    /// Where it stands.
    pub state: JobState,
    /// The service's code, if it was refused.
    pub error_code: Option<i64>,
    /// The service's text beside it.
    pub error_info: Option<String>,
    /// Requests that carried it, those refused as too fast not counted.
    pub attempts: i64,
    /// Whether some request that carried it has no known answer.
    pub in_doubt: bool,
    /// The name of its batch.
    pub batch: String,
    /// The line of the manifest where it stands.
    pub line: i64,
    /// When its outcome was recorded, in UTC milliseconds.
    pub finished_ms: Option<i64>,
}

/// Which records.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordFilter {
    /// In this state only.
    pub state: Option<JobState>,
    /// In doubt only.
    pub in_doubt: bool,
    /// Only those that no later import speaks for.
    pub newest: bool,
    /// Of this batch only.
    pub batch: Option<BatchId>,
    /// Settled by this run only.
    pub run: Option<RunId>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl Store {
    /// The records that `filter` lets through, in the order of import, then of the manifest.
    pub fn records(
        &self,
        filter: RecordFilter,
    ) -> impl Stream<Item = Result<Record, StoreError>> + Send + use<> {
        let readers = self.readers.clone();
        async_stream(filter, readers)
    }
}

fn async_stream(
    filter: RecordFilter,
    readers: sqlx::SqlitePool,
) -> impl Stream<Item = Result<Record, StoreError>> + Send {
    // Pages by job number: no statement stays open between two rows, so that a slow reader
    // of a report never keeps the write-ahead log from being folded in.
    futures_util::stream::unfold((0, filter.limit, false), move |(after, left, done)| {
        let readers = readers.clone();
        async move {
            if done || left == Some(0) {
                return None;
            }
            let limit = left.unwrap_or(PAGE_ROWS).min(PAGE_ROWS);
            let page = page(&readers, filter, after, limit).await;
            let next = match &page {
                Ok(rows) => {
                    let full = rows.len() == limit as usize;
                    let read = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                    let last = rows.last().map_or(after, |row| row.id);
                    (last, left.map(|left| left - read), !full)
                }
                Err(_) => (after, left, true),
            };
            let items: Vec<Result<Record, StoreError>> = match page {
                Ok(rows) => rows.into_iter().map(Ok).collect(),
                Err(e) => vec![Err(e)],
            };
            Some((futures_util::stream::iter(items), next))
        }
    })
    .flatten()
}

/// Rows read by one statement.
const PAGE_ROWS: u32 = 1_000;

async fn page(
    readers: &sqlx::SqlitePool,
    filter: RecordFilter,
    after: JobId,
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
        "SELECT jobs.id, question_id, jobs.status, state, error_code, error_info, attempts, in_doubt,
                batches.name, line, finished_ms
         FROM jobs JOIN batches ON batches.id = jobs.batch_id WHERE jobs.id > ",
    );
    sql.push_bind(after);
    if let Some(state) = filter.state {
        sql.push(" AND state = ").push_bind(state.name());
    }
    if filter.newest {
        sql.push(" AND newest = 1");
    }
    if filter.in_doubt {
        sql.push(" AND in_doubt = 1");
    }
    if let Some(batch) = filter.batch {
        sql.push(" AND batch_id = ").push_bind(batch);
    }
    if let Some(run) = filter.run {
        sql.push(" AND request_id IN (SELECT id FROM requests WHERE run_id = ")
            .push_bind(run)
            .push(")");
    }
    sql.push(" ORDER BY jobs.id LIMIT ").push_bind(i64::from(limit));
    let rows = sql.build().fetch_all(readers).await.doing("read records")?;
    rows.iter().map(read_record).collect()
}

fn read_record(row: &SqliteRow) -> Result<Record, StoreError> {
    let id: JobId = row.try_get(0).doing("read a record")?;
    let impossible = |reason: String| StoreError::Impossible { table: "jobs", row: id, reason };
    let status: i64 = row.try_get(2).doing("read a record")?;
    let state: &str = row.try_get(3).doing("read a record")?;
    Ok(Record {
        id,
        question_id: row.try_get(1).doing("read a record")?,
        status: Status::from_code(status).ok_or_else(|| impossible(format!("status {status}")))?,
        state: state.parse().map_err(impossible)?,
        error_code: row.try_get(4).doing("read a record")?,
        error_info: row.try_get(5).doing("read a record")?,
        attempts: row.try_get(6).doing("read a record")?,
        in_doubt: row.try_get(7).doing("read a record")?,
        batch: row.try_get(8).doing("read a record")?,
        line: row.try_get(9).doing("read a record")?,
        finished_ms: row.try_get(10).doing("read a record")?,
    })
}
