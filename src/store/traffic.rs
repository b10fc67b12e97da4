//! What was sent, and when: runs, their requests, and the requests over time.
//!
//! Only reads; sums by the engine, as in [`overview`](super::overview). Requests over time are
//! told for the newest run, and for those before it that belong to the same sitting.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::overview::{Listed, app, stretches};
use super::{Doing as _, RunId, StoreError};
use crate::job::App;

/// What is being done, for errors.
const DOING: &str = "sum up its requests";

/// The most stretches that the time of requests is cut into.
const BUCKETS_MAX: i64 = 96;

/// Lengths of a stretch, in milliseconds, each one that a person would choose.
const BUCKETS_MS: [i64; 20] = {
    const S: i64 = 1_000;
    const MIN: i64 = 60 * S;
    const H: i64 = 60 * MIN;
    [
        S,
        2 * S,
        5 * S,
        10 * S,
        15 * S,
        30 * S,
        MIN,
        2 * MIN,
        5 * MIN,
        10 * MIN,
        15 * MIN,
        30 * MIN,
        H,
        2 * H,
        3 * H,
        6 * H,
        12 * H,
        24 * H,
        48 * H,
        168 * H,
    ]
};

/// A pause up to this length never divides one sitting from the next, in milliseconds.
const PAUSE_MS: i64 = 10_000;

/// How many requests before a pause are looked at for its cause: no more than can be out.
const LOOK_BACK: i64 = 64;

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
    fn add(&mut self, verdict: Option<&str>, requests: u64) -> Result<(), StoreError> {
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
                return Err(StoreError::Impossible { table: "requests", row: 0, reason });
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
pub struct RunTally {
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

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When it begins, in UTC milliseconds.
    pub at_ms: i64,
    /// The requests that left in it.
    pub requests: RequestCounts,
}

/// Why nothing left for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The service had said "too fast".
    Frequency,
    /// Requests had found no usable answer.
    Trouble,
    /// Neither: answers were slow, or all that waited had a due time.
    Other,
}

/// Pauses of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Why.
    pub cause: Cause,
    /// How many.
    pub count: u64,
    /// Their sum, in milliseconds.
    pub total_ms: i64,
    /// The longest, in milliseconds.
    pub longest_ms: i64,
}

/// Requests in sum, and over the time of one sitting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
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
pub(super) async fn read(
    connection: &mut SqliteConnection,
    since: Option<i64>,
    listed_max: usize,
    wait_ms_min: i64,
) -> Result<(Listed<RunTally>, Traffic), StoreError> {
    let rows = sqlx::query(
        "SELECT runs.id, sdkappid, library, host, pid, started_ms, finished_ms, ending
         FROM runs JOIN apps ON apps.id = runs.app_id
         WHERE ?1 IS NULL OR finished_ms IS NULL OR finished_ms >= ?1 ORDER BY runs.id DESC LIMIT ?2",
    )
    .bind(since)
    .bind(i64::try_from(listed_max).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .doing("list runs")?;
    let row = sqlx::query(
        "SELECT count(*), min(id) FROM runs WHERE ?1 IS NULL OR finished_ms IS NULL OR finished_ms >= ?1",
    )
    .bind(since)
    .fetch_one(&mut *connection)
    .await
    .doing("list runs")?;
    let total = count(&row, 0).doing("list runs")?;
    let first: Option<RunId> = row.try_get(1).doing("list runs")?;
    let sums = by_run(connection, first.unwrap_or(RunId::MAX)).await?;
    let mut requests = RequestCounts::default();
    for sum in sums.values() {
        requests.add_all(&sum.requests);
    }
    let runs = rows.iter().map(|row| read_run(row, &sums)).collect::<Result<Vec<_>, _>>()?;
    let mut traffic = Traffic { requests, ..Traffic::default() };
    if let Some(sitting) = sitting(&runs) {
        traffic.sitting = Some((sitting.first, sitting.last));
        traffic.bucket_ms = bucket_ms(sitting.to_ms - sitting.from_ms);
        traffic.buckets = buckets(connection, sitting, traffic.bucket_ms).await?;
        traffic.waits = waits(connection, sitting, wait_ms_min).await?;
    }
    Ok((Listed { rows: runs, total }, traffic))
}

/// What one run sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    requests: RequestCounts,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
}

async fn by_run(
    connection: &mut SqliteConnection,
    first_run: RunId,
) -> Result<BTreeMap<RunId, Sum>, StoreError> {
    let ends = sqlx::query("SELECT (SELECT min(id) FROM requests), (SELECT max(id) FROM requests)")
        .fetch_one(&mut *connection)
        .await
        .doing(DOING)?;
    let mut sums: BTreeMap<RunId, Sum> = BTreeMap::new();
    for (first, last) in stretches(&ends).doing(DOING)? {
        let rows = sqlx::query(
            "SELECT run_id, verdict, count(*), min(slot_ms), max(slot_ms),
                    count(latency_ms), coalesce(sum(latency_ms), 0), coalesce(max(latency_ms), 0)
             FROM requests WHERE id BETWEEN ? AND ? AND run_id >= ? GROUP BY run_id, verdict",
        )
        .bind(first)
        .bind(last)
        .bind(first_run)
        .fetch_all(&mut *connection)
        .await
        .doing(DOING)?;
        for row in &rows {
            let run: RunId = row.try_get(0).doing(DOING)?;
            let sum = sums.entry(run).or_default();
            let verdict: Option<&str> = row.try_get(1).doing(DOING)?;
            sum.requests.add(verdict, count(row, 2).doing(DOING)?)?;
            let (from, to): (i64, i64) =
                (row.try_get(3).doing(DOING)?, row.try_get(4).doing(DOING)?);
            sum.first_ms = Some(sum.first_ms.map_or(from, |first| first.min(from)));
            sum.last_ms = sum.last_ms.max(Some(to));
            sum.requests.answered += count(row, 5).doing(DOING)?;
            sum.requests.latency_ms += count(row, 6).doing(DOING)?;
            let slowest = count(row, 7).doing(DOING)?;
            sum.requests.latency_ms_max = sum.requests.latency_ms_max.max(slowest);
        }
    }
    Ok(sums)
}

fn read_run(row: &SqliteRow, sums: &BTreeMap<RunId, Sum>) -> Result<RunTally, StoreError> {
    let doing = "list runs";
    let id: RunId = row.try_get(0).doing(doing)?;
    let sum = sums.get(&id).copied().unwrap_or_default();
    Ok(RunTally {
        id,
        app: app(row, 1, "runs", id)?,
        host: row.try_get(3).doing(doing)?,
        pid: row.try_get(4).doing(doing)?,
        started_ms: row.try_get(5).doing(doing)?,
        finished_ms: row.try_get(6).doing(doing)?,
        ending: row.try_get(7).doing(doing)?,
        requests: sum.requests,
        first_ms: sum.first_ms,
        last_ms: sum.last_ms,
    })
}

/// Runs that are shown on one axis of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sitting {
    first: RunId,
    last: RunId,
    from_ms: i64,
    to_ms: i64,
}

/// The newest run that sent something, with the runs before it, as long as the pauses between
/// them are no longer than the work: about half of the axis shows something.
fn sitting(newest_first: &[RunTally]) -> Option<Sitting> {
    let mut found: Option<(Sitting, i64)> = None;
    for run in newest_first {
        let (Some(from_ms), Some(to_ms)) = (run.first_ms, run.last_ms) else { continue };
        let work_ms = to_ms - from_ms;
        match &mut found {
            None => {
                let sitting = Sitting { first: run.id, last: run.id, from_ms, to_ms };
                found = Some((sitting, work_ms));
            }
            // A wall clock that was set back ends the sitting.
            Some((later, worked_ms))
                if (0..=PAUSE_MS + *worked_ms + work_ms).contains(&(later.from_ms - to_ms)) =>
            {
                later.first = run.id;
                later.from_ms = from_ms;
                *worked_ms += work_ms;
            }
            Some(_) => break,
        }
    }
    found.map(|(sitting, _)| sitting)
}

/// The shortest bucket of which few enough cover `span_ms`.
fn bucket_ms(span_ms: i64) -> i64 {
    let fits = |ms: &&i64| span_ms / **ms < BUCKETS_MAX;
    let longest = BUCKETS_MS[BUCKETS_MS.len() - 1];
    match BUCKETS_MS.iter().find(fits) {
        Some(ms) => *ms,
        None => longest * (span_ms / longest / BUCKETS_MAX + 1),
    }
}

async fn buckets(
    connection: &mut SqliteConnection,
    sitting: Sitting,
    bucket_ms: i64,
) -> Result<Vec<Bucket>, StoreError> {
    let Sitting { first, last, from_ms, to_ms } = sitting;
    let starts = (from_ms..=to_ms).step_by(usize::try_from(bucket_ms).unwrap_or(usize::MAX));
    let mut buckets: Vec<Bucket> =
        starts.map(|at_ms| Bucket { at_ms, requests: RequestCounts::default() }).collect();
    let rows = sqlx::query(
        "SELECT (slot_ms - ?1) / ?2, verdict, count(*) FROM requests
         WHERE run_id BETWEEN ?3 AND ?4 AND slot_ms BETWEEN ?1 AND ?5 GROUP BY 1, 2",
    )
    .bind(from_ms)
    .bind(bucket_ms)
    .bind(first)
    .bind(last)
    .bind(to_ms)
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    for row in &rows {
        let at: i64 = row.try_get(0).doing(DOING)?;
        if let Some(bucket) = usize::try_from(at).ok().and_then(|at| buckets.get_mut(at)) {
            let verdict: Option<&str> = row.try_get(1).doing(DOING)?;
            bucket.requests.add(verdict, count(row, 2).doing(DOING)?)?;
        }
    }
    Ok(buckets)
}

/// Pauses within a run. What is out when trouble comes still leaves, so the cause is looked
/// for among the answers that came in the pause.
async fn waits(
    connection: &mut SqliteConnection,
    sitting: Sitting,
    wait_ms_min: i64,
) -> Result<Vec<Waits>, StoreError> {
    let rows = sqlx::query(
        "WITH pauses AS (
           SELECT id, before_ms, slot_ms - before_ms AS ms FROM (
             SELECT id, slot_ms, run_id, lag(slot_ms) OVER (ORDER BY id) AS before_ms,
                    lag(run_id) OVER (ORDER BY id) AS run_before
             FROM requests WHERE run_id BETWEEN ?1 AND ?2)
           WHERE run_before = run_id AND slot_ms - before_ms >= ?3)
         SELECT (SELECT verdict FROM requests
                 WHERE requests.id BETWEEN pauses.id - ?4 AND pauses.id - 1
                   AND verdict IN ('throttled', 'transient') AND answered_ms >= before_ms
                 ORDER BY requests.id DESC LIMIT 1), count(*), sum(ms), max(ms)
         FROM pauses GROUP BY 1",
    )
    .bind(sitting.first)
    .bind(sitting.last)
    .bind(wait_ms_min)
    .bind(LOOK_BACK)
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    let read = |row: &SqliteRow| -> Result<Waits, sqlx::Error> {
        let cause = match row.try_get::<Option<&str>, _>(0)? {
            Some("throttled") => Cause::Frequency,
            Some(_) => Cause::Trouble,
            None => Cause::Other,
        };
        let (total_ms, longest_ms) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Waits { cause, count: count(row, 1)?, total_ms, longest_ms })
    };
    let mut waits: Vec<Waits> = rows.iter().map(read).collect::<Result<_, _>>().doing(DOING)?;
    waits.sort_by_key(|waits| waits.cause);
    Ok(waits)
}

/// A column that counts something.
pub(super) fn count(row: &SqliteRow, at: usize) -> Result<u64, sqlx::Error> {
    let n: i64 = row.try_get(at)?;
    Ok(u64::try_from(n).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Library;

    fn run(id: RunId, first_ms: i64, last_ms: i64) -> RunTally {
        RunTally {
            id,
            app: App { sdkappid: 1, library: Library::Chitchat },
            host: "h".to_owned(),
            pid: 1,
            started_ms: first_ms,
            finished_ms: None,
            ending: None,
            requests: RequestCounts::default(),
            first_ms: Some(first_ms),
            last_ms: Some(last_ms),
        }
    }

    #[test]
    fn a_bucket_is_as_short_as_the_number_of_them_allows() {
        const H: i64 = 3_600_000;
        for (span_ms, ms) in [
            (0, 1_000),
            (3_000, 1_000),
            (95_999, 1_000),
            (96_000, 2_000),
            (10 * H, 10 * 60_000),
            (30 * 24 * H, 12 * H),
            (10_000 * 24 * H, 168 * H * 15),
        ] {
            assert_eq!(bucket_ms(span_ms), ms, "{span_ms}");
            assert!(span_ms / ms < BUCKETS_MAX);
        }
    }

    #[test]
    fn a_sitting_goes_back_over_pauses_that_are_no_longer_than_its_work() {
        let ends = |runs: &[RunTally]| sitting(runs).map(|s| (s.first, s.last, s.from_ms, s.to_ms));
        let newest = run(3, 100_000, 130_000);
        assert_eq!(ends(&[]), None);
        assert_eq!(ends(std::slice::from_ref(&newest)), Some((3, 3, 100_000, 130_000)));
        let near = [newest.clone(), run(2, 50_000, 60_000), run(1, 9_000, 10_000)];
        assert_eq!(ends(&near), Some((1, 3, 9_000, 130_000)));
        let far = [newest.clone(), run(2, 1_000, 2_000)];
        assert_eq!(ends(&far), Some((3, 3, 100_000, 130_000)));
        let idle = RunTally { first_ms: None, last_ms: None, ..run(3, 0, 0) };
        assert_eq!(ends(&[idle, run(2, 1_000, 2_000)]), Some((2, 2, 1_000, 2_000)));
        let clock_set_back = [newest, run(2, 120_000, 140_000)];
        assert_eq!(ends(&clock_set_back), Some((3, 3, 100_000, 130_000)));
    }
}
