//! Records: streams the jobs of the queue, one after the other, for reports.
//!
//! Jobs are read in pages, and no read transaction stays open between two pages. Memory is bounded by a
//! few pages, whatever the size of the queue. Only reads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool};
use tokio::sync::mpsc;

use crate::domain::job::{JobId, JobState, TargetStatus};
use crate::queue::read::doubts::IN_DOUBT;
use crate::queue::read::row_helpers::integer;
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{BatchId, Context as _, QueueError, RunId};

/// A job with everything the queue records about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: JobId,
    /// The question id.
    pub question_id: String,
    /// The target status.
    pub status: TargetStatus,
    /// The job state.
    pub state: JobState,
    /// The code of the service, if it rejected the job.
    pub error_code: Option<i64>,
    /// The text of the service for that code.
    pub error_info: Option<String>,
    /// Attempts: the requests that counted against the job, without throttled ones.
    pub attempts: i64,
    /// Whether any request of the job lost its response.
    pub response_lost: bool,
    /// Whether the job is in doubt: the latest of its question, which a request may have changed
    /// without a known result.
    pub in_doubt: bool,
    /// The name of its batch.
    pub batch: Arc<str>,
    /// The line of the manifest.
    pub line: i64,
    /// The time of its outcome, in UTC milliseconds.
    pub finished_ms: Option<i64>,
}

/// Selects records.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordFilter {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs in doubt.
    pub in_doubt: bool,
    /// Only jobs that lost a response.
    pub response_lost: bool,
    /// `true`: only the latest job of each question; `false`: only other jobs.
    pub latest: Option<bool>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only jobs settled by this run.
    pub run: Option<RunId>,
    /// The most records.
    pub limit: Option<u32>,
}

impl SqliteQueue {
    pub(in crate::queue) fn records(
        &self,
        filter: RecordFilter,
    ) -> impl Stream<Item = Result<Record, QueueError>> + Send + use<> {
        // The next page is read while the previous one is decoded and written.
        let (pages, taken) = mpsc::channel(1);
        tokio::spawn(read_pages(self.readers.clone(), filter, pages));
        stream::unfold(taken, |mut taken| async { Some((taken.recv().await?, taken)) })
            .map(|page| match page.and_then(|page| page.records()) {
                Ok(records) => stream::iter(records.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .flatten()
    }
}

/// Reads pages in the order of job ids, until the last one or until the receiver is dropped. No
/// statement stays open between two pages, so a slow reader never blocks a checkpoint of the
/// write-ahead log.
async fn read_pages(
    readers: SqlitePool,
    filter: RecordFilter,
    pages: mpsc::Sender<Result<Page, QueueError>>,
) {
    let (mut after, mut left) = (0, filter.limit);
    let mut names = Names::default();
    while left != Some(0) {
        let limit = left.unwrap_or(PAGE_ROWS).min(PAGE_ROWS);
        let page = read_page(&readers, &mut names, filter, after, limit).await;
        let mut is_last = true;
        if let Ok(page) = &page {
            is_last = page.rows < limit;
            left = left.map(|left| left - page.rows);
            after = page.last;
        }
        if pages.send(page).await.is_err() || is_last {
            return;
        }
    }
}

/// Rows read by one statement.
const PAGE_ROWS: u32 = 1_000;

/// The operation, for errors.
const CONTEXT: &str = "read the jobs";

/// The names of the batches seen so far.
type Names = BTreeMap<BatchId, Arc<str>>;

/// A job as the engine returns it. All jobs of a page come in one row, as JSON, which is faster than one
/// row per job. Each job is an array, in the order of these fields and of [`FOUND`]: with the names of its
/// columns it would be twice as long.
#[derive(Deserialize)]
struct Found {
    id: JobId,
    question_id: String,
    target_status: i64,
    state: String,
    error_code: Option<i64>,
    error_info: Option<String>,
    attempts: i64,
    response_lost: i64,
    in_doubt: i64,
    batch_id: BatchId,
    line: i64,
    finished_ms: Option<i64>,
}

/// The columns of a [`Found`].
const FOUND: &str = "id, question_id, target_status, state, error_code, error_info, attempts, response_lost, in_doubt,
    batch_id, line, finished_ms";

/// One page of records, not yet decoded.
struct Page {
    /// The number of records.
    rows: u32,
    /// The id of the last record.
    last: JobId,
    /// A JSON array of [`Found`].
    found: String,
    names: Names,
}

async fn read_page(
    readers: &SqlitePool,
    names: &mut Names,
    filter: RecordFilter,
    after: JobId,
    limit: u32,
) -> Result<Page, QueueError> {
    let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(format!(
        "SELECT count(*) AS jobs, coalesce(max(id), 0) AS last_id, json_group_array(DISTINCT batch_id) AS batches,
                json_group_array(json_array({FOUND})) AS found
         FROM (SELECT id, question_id, target_status, state, error_code, error_info, attempts, response_lost,
                      {IN_DOUBT} AS in_doubt, batch_id, line, finished_ms
               FROM jobs WHERE id > "
    ));
    sql.push_bind(after);
    if let Some(state) = filter.state {
        // A literal and not a bound value, so that the engine can use the partial index of failed jobs.
        sql.push(" AND state = '").push(state.name()).push("'");
    }
    if let Some(latest) = filter.latest {
        sql.push(if latest { " AND is_latest" } else { " AND NOT is_latest" });
    }
    if filter.in_doubt {
        sql.push(" AND ").push(IN_DOUBT);
    }
    if filter.response_lost {
        sql.push(" AND response_lost");
    }
    if let Some(batch) = filter.batch {
        sql.push(" AND batch_id = ").push_bind(batch);
    }
    if let Some(run) = filter.run {
        sql.push(" AND request_id IN (SELECT id FROM requests WHERE run_id = ")
            .push_bind(run)
            .push(")");
    }
    sql.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit)).push(")");
    let row = sql.build().fetch_one(readers).await.context(CONTEXT)?;
    let batches: &str = row.try_get("batches").context(CONTEXT)?;
    for batch in from_json::<Vec<BatchId>>(batches)? {
        if let Entry::Vacant(unknown) = names.entry(batch) {
            let name: String = sqlx::query_scalar("SELECT name FROM batches WHERE id = $1")
                .bind(batch)
                .fetch_one(readers)
                .await
                .context(CONTEXT)?;
            unknown.insert(name.into());
        }
    }
    Ok(Page {
        rows: integer(&row, "jobs").context(CONTEXT)?,
        last: row.try_get("last_id").context(CONTEXT)?,
        found: row.try_get("found").context(CONTEXT)?,
        names: names.clone(),
    })
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|e| sqlx::Error::Decode(e.into())).context(CONTEXT)
}

impl Page {
    fn records(&self) -> Result<Vec<Record>, QueueError> {
        let found: Vec<Found> = from_json(&self.found)?;
        found.into_iter().map(|found| found.record(&self.names)).collect()
    }
}

impl Found {
    fn record(self, names: &Names) -> Result<Record, QueueError> {
        let impossible =
            |reason: String| QueueError::Impossible { table: "jobs", row: self.id, reason };
        let status = TargetStatus::from_code(self.target_status);
        Ok(Record {
            id: self.id,
            question_id: self.question_id,
            status: status.ok_or_else(|| {
                impossible(format!("unknown target status {}", self.target_status))
            })?,
            state: self.state.parse().map_err(impossible)?,
            error_code: self.error_code,
            error_info: self.error_info,
            attempts: self.attempts,
            response_lost: self.response_lost != 0,
            in_doubt: self.in_doubt != 0,
            batch: names.get(&self.batch_id).map_or_else(|| "".into(), Arc::clone),
            line: self.line,
            finished_ms: self.finished_ms,
        })
    }
}
