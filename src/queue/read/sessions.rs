//! Sessions: the newest run and the earlier runs that belong to the same work, on one time axis.
//!
//! A report shows the requests of a session in buckets of time, and the pauses within its runs by
//! reason. Only reads, as part of `request_stats.rs`.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::queue::read::request_stats::{CONTEXT, RequestCounts, RunStats};
use crate::queue::read::row_helpers::{from_row, id_ranges, integer};
use crate::queue::{Context as _, QueueError, RequestId, RunId};

/// The most buckets on the time axis.
const BUCKETS_MAX: i64 = 96;

/// The possible lengths of a bucket, in milliseconds: round numbers.
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

/// A pause of at most this length never separates two sessions, in milliseconds.
const PAUSE_MS: i64 = 10_000;

/// How many requests before a pause are examined for its reason. No more requests can be in flight.
const LOOK_BACK: i64 = 64;

/// A bucket of the time axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The beginning, in UTC milliseconds.
    pub at_ms: i64,
    /// The requests that were sent in the bucket.
    pub requests: RequestCounts,
}

/// Why no request was sent during a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseReason {
    /// A push-back of the service.
    Throttled,
    /// A transient failure.
    Transient,
    /// Neither: responses were slow, or all pending jobs had a later due time.
    Other,
}

/// The pauses with one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseStats {
    pub reason: PauseReason,
    /// The number of pauses.
    pub count: u64,
    /// Their sum, in milliseconds.
    pub total_ms: i64,
    /// The longest, in milliseconds.
    pub longest_ms: i64,
}

from_row!(PauseStats { reason = read_reason, count = integer, total_ms, longest_ms });

impl PauseStats {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.total_ms += other.total_ms;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
    }
}

/// The runs that share one time axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) struct Session {
    pub(in crate::queue) first: RunId,
    pub(in crate::queue) last: RunId,
    pub(in crate::queue) from_ms: i64,
    pub(in crate::queue) to_ms: i64,
}

/// The newest run that sent a request, with the runs before it. A run belongs to the session if the
/// pause after it is no longer than the work of both together, so requests fill about half of the time
/// axis.
pub(in crate::queue) fn find_session(newest_first: &[RunStats]) -> Option<Session> {
    let mut found: Option<(Session, i64)> = None;
    for run in newest_first {
        let (Some(from_ms), Some(to_ms)) = (run.first_ms, run.last_ms) else { continue };
        let work_ms = to_ms - from_ms;
        match &mut found {
            None => {
                let session = Session { first: run.id, last: run.id, from_ms, to_ms };
                found = Some((session, work_ms));
            }
            // A wall clock that was set back ends the session.
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
    found.map(|(session, _)| session)
}

/// The shortest bucket length with few enough buckets for `span_ms`.
pub(in crate::queue) fn bucket_ms(span_ms: i64) -> i64 {
    let fits = |ms: &&i64| span_ms / **ms < BUCKETS_MAX;
    let longest = BUCKETS_MS[BUCKETS_MS.len() - 1];
    match BUCKETS_MS.iter().find(fits) {
        Some(ms) => *ms,
        None => longest * (span_ms / longest / BUCKETS_MAX + 1),
    }
}

/// The requests of the session by bucket, one range of ids at a time; `ids` are its first and last
/// request.
pub(in crate::queue) async fn buckets(
    connection: &mut SqliteConnection,
    session: Session,
    ids: Option<(RequestId, RequestId)>,
    bucket_ms: i64,
) -> Result<Vec<Bucket>, QueueError> {
    let Session { first, last, from_ms, to_ms } = session;
    let starts = (from_ms..=to_ms).step_by(usize::try_from(bucket_ms).unwrap_or(usize::MAX));
    let mut buckets: Vec<Bucket> =
        starts.map(|at_ms| Bucket { at_ms, requests: RequestCounts::default() }).collect();
    for (from, to) in id_ranges(ids) {
        // The unary plus keeps SQLite from the index by run, which would read the session once per range.
        let rows = sqlx::query(
            "SELECT (scheduled_ms - $1) / $2 AS bucket, verdict, count(*) AS requests FROM requests
             WHERE id BETWEEN $6 AND $7 AND +run_id BETWEEN $3 AND $4 AND scheduled_ms BETWEEN $1 AND $5
             GROUP BY 1, 2",
        )
        .bind(from_ms)
        .bind(bucket_ms)
        .bind(first)
        .bind(last)
        .bind(to_ms)
        .bind(from)
        .bind(to)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        for row in &rows {
            let at: i64 = row.try_get("bucket").context(CONTEXT)?;
            if let Some(bucket) = usize::try_from(at).ok().and_then(|at| buckets.get_mut(at)) {
                let verdict: Option<&str> = row.try_get("verdict").context(CONTEXT)?;
                bucket.requests.add(verdict, integer(row, "requests").context(CONTEXT)?)?;
            }
        }
    }
    Ok(buckets)
}

/// The pauses within runs, by reason, one range of ids at a time; each range includes the request before
/// it.
///
/// Requests in flight at the time of a failure were sent before it, so the reason is the last throttled or
/// transient response that arrived during the pause.
pub(in crate::queue) async fn pauses(
    connection: &mut SqliteConnection,
    session: Session,
    ids: Option<(RequestId, RequestId)>,
    wait_ms_min: i64,
) -> Result<Vec<PauseStats>, QueueError> {
    let mut pauses: BTreeMap<PauseReason, PauseStats> = BTreeMap::new();
    for (from, to) in id_ranges(ids) {
        // The unary plus has the reason given in `buckets`.
        let of_range: Vec<PauseStats> = sqlx::query_as(
            "WITH pauses AS (
               SELECT id, before_ms, scheduled_ms - before_ms AS ms FROM (
                 SELECT id, scheduled_ms, run_id, lag(scheduled_ms) OVER (ORDER BY id) AS before_ms,
                        lag(run_id) OVER (ORDER BY id) AS run_before
                 FROM requests
                 WHERE id BETWEEN coalesce((SELECT id FROM requests WHERE id < $5 AND +run_id BETWEEN $1 AND $2
                                            ORDER BY id DESC LIMIT 1), $5) AND $6
                   AND +run_id BETWEEN $1 AND $2) AS sent
               WHERE run_before = run_id AND scheduled_ms - before_ms >= $3)
             SELECT (SELECT verdict FROM requests
                     WHERE requests.id BETWEEN pauses.id - $4 AND pauses.id - 1
                       AND verdict IN ('throttled', 'transient') AND responded_ms >= before_ms
                     ORDER BY requests.id DESC LIMIT 1) AS reason,
                    count(*) AS count, CAST(sum(ms) AS BIGINT) AS total_ms, max(ms) AS longest_ms
             FROM pauses GROUP BY 1",
        )
        .bind(session.first)
        .bind(session.last)
        .bind(wait_ms_min)
        .bind(LOOK_BACK)
        .bind(from)
        .bind(to)
        .fetch_all(&mut *connection)
        .await
        .context(CONTEXT)?;
        for more in of_range {
            pauses.entry(more.reason).and_modify(|pauses| pauses.add(&more)).or_insert(more);
        }
    }
    Ok(pauses.into_values().collect())
}

/// Reads the verdict of the response that caused the pauses.
fn read_reason(row: &SqliteRow, column: &str) -> Result<PauseReason, sqlx::Error> {
    Ok(match row.try_get(column)? {
        Some("throttled") => PauseReason::Throttled,
        Some(_) => PauseReason::Transient,
        None => PauseReason::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{App, Library};

    fn run(id: RunId, first_ms: i64, last_ms: i64) -> RunStats {
        RunStats {
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
    fn bucket_width_respects_max_count() {
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
    fn session_spans_short_pauses() {
        let ends =
            |runs: &[RunStats]| find_session(runs).map(|s| (s.first, s.last, s.from_ms, s.to_ms));
        let newest = run(3, 100_000, 130_000);
        assert_eq!(ends(&[]), None);
        assert_eq!(ends(std::slice::from_ref(&newest)), Some((3, 3, 100_000, 130_000)));
        let near = [newest.clone(), run(2, 50_000, 60_000), run(1, 9_000, 10_000)];
        assert_eq!(ends(&near), Some((1, 3, 9_000, 130_000)));
        let far = [newest.clone(), run(2, 1_000, 2_000)];
        assert_eq!(ends(&far), Some((3, 3, 100_000, 130_000)));
        let idle = RunStats { first_ms: None, last_ms: None, ..run(3, 0, 0) };
        assert_eq!(ends(&[idle, run(2, 1_000, 2_000)]), Some((2, 2, 1_000, 2_000)));
        let clock_set_back = [newest, run(2, 120_000, 140_000)];
        assert_eq!(ends(&clock_set_back), Some((3, 3, 100_000, 130_000)));
    }
}
