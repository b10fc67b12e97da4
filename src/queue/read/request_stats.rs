//! The requests of the queue: by run, and over time.
//!
//! Only reads; the engine computes the sums, as in [`overview`](crate::queue::read::report). Requests
//! over time cover one session: the newest run, with the earlier runs that belong to the same work
//! (`sessions.rs`).

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::domain::job::App;
use crate::queue::read::report::Truncated;
use crate::queue::read::row_helpers::{app, count, ends, stretches};
use crate::queue::read::sessions::{Bucket, PauseStats, bucket_ms, buckets, sitting, waits};
use crate::queue::{Context as _, QueueError, RequestId, RunId};

/// The operation, for errors.
pub(in crate::queue) const CONTEXT: &str = "sum up its requests";

/// Requests by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// All requests.
    pub total: u64,
    /// Applied: every question of the request has its target status.
    pub applied: u64,
    /// Rejected for their questions.
    pub rejected: u64,
    /// Throttled: the service pushed back.
    pub throttled: u64,
    /// Transient: without a usable response.
    pub transient: u64,
    /// Rejected for their UserSig (renew), or permanently (stop).
    pub refused: u64,
    /// Orphaned: the response was lost with the run.
    pub orphaned: u64,
    /// Requests without a recorded response.
    pub in_flight: u64,
    /// Requests with a response.
    pub answered: u64,
    /// The sum of the latencies of `answered` requests, in milliseconds.
    pub latency_ms: u64,
    /// The longest latency, in milliseconds.
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

/// A run, with its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStats {
    pub id: RunId,
    /// The app of its jobs.
    pub app: App,
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: i64,
    /// The beginning, in UTC milliseconds.
    pub started_ms: i64,
    /// The end; `None` while the run continues, or if it died and no later run has closed it.
    pub finished_ms: Option<i64>,
    pub ending: Option<String>,
    /// Its requests.
    pub requests: RequestCounts,
    /// When its first request was sent, in UTC milliseconds.
    pub first_ms: Option<i64>,
    /// When its last request was sent, in UTC milliseconds.
    pub last_ms: Option<i64>,
}

/// The sum of all requests, and the requests of one session over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestTimeline {
    /// The requests of all selected runs.
    pub requests: RequestCounts,
    /// The first and the last run of the session.
    pub sitting: Option<(RunId, RunId)>,
    /// The length of a bucket, in milliseconds.
    pub bucket_ms: i64,
    /// The buckets from the first request of the session to the last, without a gap.
    pub buckets: Vec<Bucket>,
    /// The pauses within its runs, by cause.
    pub waits: Vec<PauseStats>,
}

/// Reads the runs that were open at `since` or began later, or all runs, with their requests.
pub(in crate::queue) async fn read(
    connection: &mut SqliteConnection,
    since: Option<i64>,
    listed_max: usize,
    wait_ms_min: i64,
) -> Result<(Truncated<RunStats>, RequestTimeline), QueueError> {
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
    Ok((Truncated { rows: runs, total }, traffic))
}

/// The requests of one run.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    requests: RequestCounts,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    /// The ids of its first and its last request.
    ids: Option<(RequestId, RequestId)>,
}

/// The smallest range that contains both ranges.
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
