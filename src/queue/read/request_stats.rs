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
use crate::queue::read::row_helpers::{
    first_and_last_id, flatten, from_row, id_ranges, integer, skip,
};
use crate::queue::read::sessions::{Bucket, PauseStats, bucket_ms, buckets, find_session, pauses};
use crate::queue::{Context as _, QueueError, RequestId, RunId};

/// The operation, for errors.
pub(in crate::queue) const CONTEXT: &str = "count the requests";

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
    pub responded: u64,
    /// The sum of the latencies of `responded` requests, in milliseconds.
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
        self.responded += other.responded;
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

from_row!(RunStats {
    id,
    app = flatten,
    host,
    pid,
    started_ms,
    finished_ms,
    ending,
    requests = skip,
    first_ms = skip,
    last_ms = skip,
});

/// The sum of all requests, and the requests of one session over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestTimeline {
    /// The requests of all selected runs.
    pub requests: RequestCounts,
    /// The first and the last run of the session.
    pub session: Option<(RunId, RunId)>,
    /// The length of a bucket, in milliseconds.
    pub bucket_ms: i64,
    /// The buckets from the first request of the session to the last, without a gap.
    pub buckets: Vec<Bucket>,
    /// The pauses within its runs, by reason.
    pub pauses: Vec<PauseStats>,
}

/// Reads the runs that were open at `since` or began later, or all runs, with their requests.
pub(in crate::queue) async fn read(
    connection: &mut SqliteConnection,
    since: Option<i64>,
    listed_max: usize,
    wait_ms_min: i64,
) -> Result<(Truncated<RunStats>, RequestTimeline), QueueError> {
    const CONTEXT: &str = "list the runs";
    let mut runs: Vec<RunStats> = sqlx::query_as(
        "SELECT runs.id, sdkappid, library, host, pid, started_ms, finished_ms, ending
         FROM runs JOIN apps ON apps.id = runs.app_id
         WHERE $1 IS NULL OR finished_ms IS NULL OR finished_ms >= $1 ORDER BY runs.id DESC LIMIT $2",
    )
    .bind(since)
    .bind(i64::try_from(listed_max).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .context(CONTEXT)?;
    let row = sqlx::query(
        "SELECT count(*) AS runs, min(id) AS first_id FROM runs
         WHERE $1 IS NULL OR finished_ms IS NULL OR finished_ms >= $1",
    )
    .bind(since)
    .fetch_one(&mut *connection)
    .await
    .context(CONTEXT)?;
    let total = integer(&row, "runs").context(CONTEXT)?;
    let first: Option<RunId> = row.try_get("first_id").context(CONTEXT)?;
    let sums = by_run(connection, first.unwrap_or(RunId::MAX)).await?;
    let mut requests = RequestCounts::default();
    for sum in sums.values() {
        requests.add_all(&sum.requests);
    }
    for run in &mut runs {
        let sum = sums.get(&run.id).copied().unwrap_or_default();
        (run.requests, run.first_ms, run.last_ms) = (sum.requests, sum.first_ms, sum.last_ms);
    }
    let mut traffic = RequestTimeline { requests, ..RequestTimeline::default() };
    if let Some(session) = find_session(&runs) {
        traffic.session = Some((session.first, session.last));
        traffic.bucket_ms = bucket_ms(session.to_ms - session.from_ms);
        let ids = sums.range(session.first..=session.last).map(|(_, sum)| sum.ids);
        let ids = ids.fold(None, widest);
        traffic.buckets = buckets(connection, session, ids, traffic.bucket_ms).await?;
        traffic.pauses = pauses(connection, session, ids, wait_ms_min).await?;
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
    let ends = sqlx::query(
        "SELECT (SELECT min(id) FROM requests) AS first_id, (SELECT max(id) FROM requests) AS last_id",
    )
    .fetch_one(&mut *connection)
    .await
    .and_then(|row| first_and_last_id(&row))
    .context(CONTEXT)?;
    let mut sums: BTreeMap<RunId, Sum> = BTreeMap::new();
    for (first, last) in id_ranges(ends) {
        let rows = sqlx::query(
            "SELECT run_id, verdict, count(*) AS requests, min(scheduled_ms) AS first_ms, max(scheduled_ms) AS last_ms,
                    count(latency_ms) AS responded, CAST(coalesce(sum(latency_ms), 0) AS BIGINT) AS latency_ms,
                    coalesce(max(latency_ms), 0) AS latency_ms_max, min(id) AS first_id, max(id) AS last_id
             FROM requests WHERE id BETWEEN $1 AND $2 AND run_id >= $3 GROUP BY run_id, verdict",
        )
        .bind(first)
        .bind(last)
        .bind(first_run)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        for row in &rows {
            let sum = sums.entry(row.try_get("run_id").context(CONTEXT)?).or_default();
            let verdict: Option<&str> = row.try_get("verdict").context(CONTEXT)?;
            sum.requests.add(verdict, integer(row, "requests").context(CONTEXT)?)?;
            sum.add_times(row).context(CONTEXT)?;
        }
    }
    Ok(sums)
}

impl Sum {
    /// Adds the times and the ids of the requests of one row, without their number.
    fn add_times(&mut self, row: &SqliteRow) -> Result<(), sqlx::Error> {
        let first_ms: i64 = row.try_get("first_ms")?;
        self.first_ms = Some(self.first_ms.map_or(first_ms, |first| first.min(first_ms)));
        self.last_ms = self.last_ms.max(row.try_get("last_ms")?);
        self.requests.responded += integer::<u64>(row, "responded")?;
        self.requests.latency_ms += integer::<u64>(row, "latency_ms")?;
        let latency_ms_max = integer(row, "latency_ms_max")?;
        self.requests.latency_ms_max = self.requests.latency_ms_max.max(latency_ms_max);
        self.ids = widest(self.ids, first_and_last_id(row)?);
        Ok(())
    }
}
