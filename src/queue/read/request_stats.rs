//! What was sent, and when: runs, their requests, and the requests over time.
//!
//! Only reads; sums by the engine, as in [`overview`](crate::queue::read::report). Requests over time are
//! told for the newest run, and for those before it that belong to the same sitting.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::domain::job::App;
use crate::queue::read::report::Listed;
use crate::queue::read::row_helpers::{app, count, ends, stretches};
use crate::queue::read::sessions::{Bucket, Waits, bucket_ms, buckets, sitting, waits};
use crate::queue::{Context as _, QueueError, RequestId, RunId};

/// What is being done, for errors.
pub(in crate::queue) const CONTEXT: &str = "sum up its requests";

/// Requests, by what their answers meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// All of them.
    pub total: u64,
    /// Taken: every question that they carried is as asked.
    pub applied: u64,
    /// Refused for what they carried.
    pub rejected: u64,
    /// Refused as too fast.
    pub throttled: u64,
    /// Without a usable answer.
    pub transient: u64,
    /// Refused for the UserSig, or for good.
    pub refused: u64,
    /// Those whose answer was lost with their run.
    pub orphaned: u64,
    /// Those without a recorded answer yet.
    pub in_flight: u64,
    /// Answered ones, and what their answers took in sum, in milliseconds.
    pub answered: u64,
    /// See `answered`.
    pub latency_ms: u64,
    /// The slowest answer, in milliseconds.
    pub latency_ms_max: u64,
}

impl RequestCounts {
    pub(in crate::queue) fn add(
        &mut self,
        verdict: Option<&str>,
        requests: u64,
    ) -> Result<(), QueueError> {
        self.total += requests;
        let counted = match verdict {
            None => &mut self.in_flight,
            Some("applied") => &mut self.applied,
            Some("rejected") => &mut self.rejected,
            Some("throttled") => &mut self.throttled,
            Some("transient") => &mut self.transient,
            Some("renew" | "stop") => &mut self.refused,
            Some("orphaned") => &mut self.orphaned,
            Some(other) => {
                let reason = format!("verdict {other}");
                return Err(QueueError::Impossible { table: "requests", row: 0, reason });
            }
        };
        *counted += requests;
        Ok(())
    }

    fn add_all(&mut self, other: &Self) {
        self.total += other.total;
        self.applied += other.applied;
        self.rejected += other.rejected;
        self.throttled += other.throttled;
        self.transient += other.transient;
        self.refused += other.refused;
        self.orphaned += other.orphaned;
        self.in_flight += other.in_flight;
        self.answered += other.answered;
        self.latency_ms += other.latency_ms;
        self.latency_ms_max = self.latency_ms_max.max(other.latency_ms_max);
    }
}

/// A run and what it sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStats {
    /// Its number.
    pub id: RunId,
    /// The app and library that it was for.
    pub app: App,
    /// The host it ran on.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// When it began, in UTC milliseconds.
    pub started_ms: i64,
    /// When it ended; `None` while it goes on, or if it died and nobody has noticed yet.
    pub finished_ms: Option<i64>,
    /// How it ended.
    pub ending: Option<String>,
    /// Its requests.
    pub requests: RequestCounts,
    /// When the first of them left, in UTC milliseconds.
    pub first_ms: Option<i64>,
    /// When the last of them left.
    pub last_ms: Option<i64>,
}

/// Requests in sum, and over the time of one sitting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestTimeline {
    /// Of every run that is meant.
    pub requests: RequestCounts,
    /// The first and the last run of the sitting.
    pub sitting: Option<(RunId, RunId)>,
    /// How long a bucket is, in milliseconds.
    pub bucket_ms: i64,
    /// The sitting from its first request to its last, without a gap.
    pub buckets: Vec<Bucket>,
    /// Its pauses within runs, by cause.
    pub waits: Vec<Waits>,
}

/// The runs that had to do with what was imported at `since`, or all, and what they sent.
pub(in crate::queue) async fn read(
    connection: &mut SqliteConnection,
    since: Option<i64>,
    listed_max: usize,
    wait_ms_min: i64,
) -> Result<(Listed<RunStats>, RequestTimeline), QueueError> {
    let rows = sqlx::query(
        "SELECT runs.id, sdkappid, library, host, pid, started_ms, finished_ms, ending
         FROM runs JOIN apps ON apps.id = runs.app_id
         WHERE ?1 IS NULL OR finished_ms IS NULL OR finished_ms >= ?1 ORDER BY runs.id DESC LIMIT ?2",
    )
    .bind(since)
    .bind(i64::try_from(listed_max).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .context("list runs")?;
    let row = sqlx::query(
        "SELECT count(*), min(id) FROM runs WHERE ?1 IS NULL OR finished_ms IS NULL OR finished_ms >= ?1",
    )
    .bind(since)
    .fetch_one(&mut *connection)
    .await
    .context("list runs")?;
    let total = count(&row, 0).context("list runs")?;
    let first: Option<RunId> = row.try_get(1).context("list runs")?;
    let sums = by_run(connection, first.unwrap_or(RunId::MAX)).await?;
    let mut requests = RequestCounts::default();
    for sum in sums.values() {
        requests.add_all(&sum.requests);
    }
    let runs = rows.iter().map(|row| read_run(row, &sums)).collect::<Result<Vec<_>, _>>()?;
    let mut traffic = RequestTimeline { requests, ..RequestTimeline::default() };
    if let Some(sitting) = sitting(&runs) {
        traffic.sitting = Some((sitting.first, sitting.last));
        traffic.bucket_ms = bucket_ms(sitting.to_ms - sitting.from_ms);
        let ids = sums.range(sitting.first..=sitting.last).map(|(_, sum)| sum.ids);
        let ids = ids.fold(None, widest);
        traffic.buckets = buckets(connection, sitting, ids, traffic.bucket_ms).await?;
        traffic.waits = waits(connection, sitting, ids, wait_ms_min).await?;
    }
    Ok((Listed { rows: runs, total }, traffic))
}

/// What one run sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    requests: RequestCounts,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    /// The numbers of its first and its last request.
    ids: Option<(RequestId, RequestId)>,
}

/// From the first of both to the last.
fn widest(
    one: Option<(RequestId, RequestId)>,
    other: Option<(RequestId, RequestId)>,
) -> Option<(RequestId, RequestId)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

async fn by_run(
    connection: &mut SqliteConnection,
    first_run: RunId,
) -> Result<BTreeMap<RunId, Sum>, QueueError> {
    let row = sqlx::query("SELECT (SELECT min(id) FROM requests), (SELECT max(id) FROM requests)")
        .fetch_one(&mut *connection)
        .await
        .context(CONTEXT)?;
    let mut sums: BTreeMap<RunId, Sum> = BTreeMap::new();
    for (first, last) in stretches(ends(&row).context(CONTEXT)?) {
        let rows = sqlx::query(
            "SELECT run_id, verdict, count(*), min(scheduled_ms), max(scheduled_ms),
                    count(latency_ms), coalesce(sum(latency_ms), 0), coalesce(max(latency_ms), 0), min(id), max(id)
             FROM requests WHERE id BETWEEN ? AND ? AND run_id >= ? GROUP BY run_id, verdict",
        )
        .bind(first)
        .bind(last)
        .bind(first_run)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        for row in &rows {
            let run: RunId = row.try_get(0).context(CONTEXT)?;
            let sum = sums.entry(run).or_default();
            let verdict: Option<&str> = row.try_get(1).context(CONTEXT)?;
            sum.requests.add(verdict, count(row, 2).context(CONTEXT)?)?;
            let (from, to): (i64, i64) =
                (row.try_get(3).context(CONTEXT)?, row.try_get(4).context(CONTEXT)?);
            sum.first_ms = Some(sum.first_ms.map_or(from, |first| first.min(from)));
            sum.last_ms = sum.last_ms.max(Some(to));
            sum.requests.answered += count(row, 5).context(CONTEXT)?;
            sum.requests.latency_ms += count(row, 6).context(CONTEXT)?;
            let slowest = count(row, 7).context(CONTEXT)?;
            sum.requests.latency_ms_max = sum.requests.latency_ms_max.max(slowest);
            let ids = (row.try_get(8).context(CONTEXT)?, row.try_get(9).context(CONTEXT)?);
            sum.ids = widest(sum.ids, Some(ids));
        }
    }
    Ok(sums)
}

fn read_run(row: &SqliteRow, sums: &BTreeMap<RunId, Sum>) -> Result<RunStats, QueueError> {
    let doing = "list runs";
    let id: RunId = row.try_get(0).context(doing)?;
    let sum = sums.get(&id).copied().unwrap_or_default();
    Ok(RunStats {
        id,
        app: app(row, 1, "runs", id)?,
        host: row.try_get(3).context(doing)?,
        pid: row.try_get(4).context(doing)?,
        started_ms: row.try_get(5).context(doing)?,
        finished_ms: row.try_get(6).context(doing)?,
        ending: row.try_get(7).context(doing)?,
        requests: sum.requests,
        first_ms: sum.first_ms,
        last_ms: sum.last_ms,
    })
}
