//! Time: the only place that reads a system clock.
//!
//! Every other module takes a [`Moment`] or UTC milliseconds as an argument, or is generic over [`Clock`].
//! The project has its own trait, because tokio's paused time does not work with SQLite, which works on a
//! thread that tokio does not see. A wait always ends at a moment, never after a duration that a caller
//! summed up.

use std::future::Future;
use std::ops::{Add, Sub};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// A reading of a monotonic clock: the time since that clock was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, back: Duration) -> Self {
        Self(self.0.saturating_sub(back))
    }
}

/// A source of time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The monotonic time. Never goes backwards.
    fn now(&self) -> Moment;

    /// The wall clock as UTC milliseconds since 1970. It may jump in either direction.
    fn wall_ms(&self) -> i64;

    /// Returns once `now()` is at or past `until`.
    fn sleep_until(&self, until: Moment) -> impl Future<Output = ()> + Send;
}

/// The clocks of the operating system.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads time")]
impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads time")]
impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(self.start.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        // A clock before 1970 is wrong; zero satisfies the CHECK constraints of the queue.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    async fn sleep_until(&self, until: Moment) {
        // tokio rounds up to its next millisecond, so this never returns early.
        tokio::time::sleep_until(tokio::time::Instant::from_std(self.start + until.0)).await;
    }
}

/// A clock that a test controls.
///
/// Both times advance together; [`ManualClock::jump_wall`] moves only the wall clock, as an administrator or
/// NTP does.
#[derive(Debug, Clone)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    times: Mutex<Times>,
    moved: Notify,
    sleeping: Notify,
}

#[derive(Debug)]
struct Times {
    now: Moment,
    wall_ms: i64,
    /// The moments of all sleeps, with repeats.
    waits: Vec<Moment>,
}

impl ManualClock {
    /// A clock at moment zero, with the wall clock at `wall_ms`.
    pub fn new(wall_ms: i64) -> Self {
        let times = Times { now: Moment::default(), wall_ms, waits: Vec::new() };
        Self {
            shared: Arc::new(Shared {
                times: Mutex::new(times),
                moved: Notify::new(),
                sleeping: Notify::new(),
            }),
        }
    }

    /// Advances both times and wakes the finished sleeps.
    pub fn advance(&self, by: Duration) {
        {
            let mut times = self.times();
            times.now = times.now + by;
            times.wall_ms += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        }
        self.shared.moved.notify_waiters();
    }

    /// Moves only the wall clock, in either direction.
    pub fn jump_wall(&self, by_ms: i64) {
        self.times().wall_ms += by_ms;
    }

    /// Waits for a sleep on this clock, then advances to the end of the earliest one. A test waits for the
    /// sleep itself and does not have to guess the duration of the work before it.
    pub async fn advance_to_next_sleeper(&self) {
        let next = self.next_sleeper().await;
        self.advance(next.since(self.now()));
    }

    /// Waits for a sleep on this clock and returns the earliest moment at which one ends.
    pub async fn next_sleeper(&self) -> Moment {
        loop {
            let sleeping = self.shared.sleeping.notified();
            let next = self.times().waits.iter().min().copied();
            if let Some(next) = next {
                return next;
            }
            sleeping.await;
        }
    }

    /// The number of sleeps on this clock, and the earliest moment at which one ends.
    pub fn sleepers(&self) -> (usize, Option<Moment>) {
        let times = self.times();
        (times.waits.len(), times.waits.iter().min().copied())
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.shared.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a sleep from the list at its end, even if its future is dropped.
struct Wait<'a>(&'a ManualClock, Moment);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut times = self.0.times();
        if let Some(at) = times.waits.iter().position(|wait| *wait == self.1) {
            times.waits.swap_remove(at);
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.times().now
    }

    fn wall_ms(&self) -> i64 {
        self.times().wall_ms
    }

    async fn sleep_until(&self, until: Moment) {
        self.times().waits.push(until);
        let _wait = Wait(self, until);
        loop {
            // Subscribed before the time is read, so that no move is missed in between.
            let moved = self.shared.moved.notified();
            if self.now() >= until {
                return;
            }
            self.shared.sleeping.notify_waiters();
            self.shared.sleeping.notify_one();
            moved.await;
        }
    }
}

/// `ms` since 1970 as RFC 3339 text in UTC, to the millisecond.
pub fn utc_text(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms"), |at| format!("{at:.3}"))
}

/// `ms` since 1970 as the time of day: `14:02 UTC`.
pub fn time_of_day_text(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| utc_text(ms), |at| at.strftime("%H:%M UTC").to_string())
}

/// Reads the date of an HTTP response: milliseconds since 1970, always a whole second.
pub fn read_http_date_ms(text: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(date.as_millisecond())
}

/// Reads a human duration: `7d`, `12h`, `1h 30m`, `90s`; a day has 24 hours.
///
/// # Errors
/// The error in the text, and a valid example.
pub fn read_duration(text: &str) -> Result<Duration, String> {
    let read = |text: &str| -> Option<Duration> {
        let span: jiff::Span = text.parse().ok()?;
        let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(length).ok()
    };
    let text = text.trim_matches(' ');
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    read(text).ok_or_else(|| {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return format!("{text:?} has no unit: write {text}s, {text}m, {text}h or {text}d");
        }
        // If the text is valid with small numbers, its only error is its length.
        let units = text.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty());
        let small = format!("1{}", units.collect::<Vec<_>>().join("1"));
        if read(&small).is_some() && text.starts_with(|c: char| c.is_ascii_digit()) {
            return format!(
                "{text:?} is too long: write a shorter duration, e.g. 30s, 90m, 12h or 7d"
            );
        }
        format!("{text:?} is not a duration: write it with units, e.g. 30s, 90m, 12h or 7d")
    })
}

/// `duration` in the syntax of [`read_duration`], in its largest units: `10m`, `24h`, `1m 30s`, `300ms`.
pub fn duration_text(duration: Duration) -> String {
    let length = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    format!("{length:#}")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn manual_sleep_ends_exactly_at_its_moment() {
        let clock = ManualClock::new(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(Moment(Duration::from_millis(204))).await;
                clock.now()
            }
        });
        clock.advance_to_next_sleeper().await;
        assert_eq!(sleeper.await.expect("joins"), Moment(Duration::from_millis(204)));
        assert_eq!(clock.wall_ms(), 1_204);
    }

    #[tokio::test]
    async fn dropped_sleep_leaves_no_pending_wait() {
        let clock = ManualClock::new(0);
        let polled = clock.sleep_until(Moment(Duration::from_secs(1))).now_or_never();
        assert!(polled.is_none());
        assert!(clock.times().waits.is_empty());
    }

    #[test]
    fn human_durations_are_parsed() {
        let hours = Duration::from_hours;
        for (text, length) in [
            ("7d", hours(7 * 24)),
            ("2 weeks", hours(14 * 24)),
            ("12h", hours(12)),
            ("1h 30m", Duration::from_mins(90)),
            ("0s", Duration::ZERO),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(read_duration(text), Ok(length), "{text}");
        }
        for wrong in ["", "d", "-3d", "3 months", "soon"] {
            let refused = read_duration(wrong).expect_err("refused");
            assert!(
                refused
                    .ends_with("is not a duration: write it with units, e.g. 30s, 90m, 12h or 7d"),
                "{refused}"
            );
        }
        let refused = read_duration(" 7 ").expect_err("refused");
        assert_eq!(refused, "\"7\" has no unit: write 7s, 7m, 7h or 7d");
        for long in ["99999999999d", "999999999999999999999999h", "99999999999d 1h"] {
            let refused = read_duration(long).expect_err("refused");
            assert!(refused.contains("is too long: write a shorter duration"), "{refused}");
        }
    }

    #[test]
    fn http_date_is_parsed() {
        let read = read_http_date_ms;
        assert_eq!(read("Wed, 01 Jan 2025 00:00:00 GMT"), Some(1_735_689_600_000));
        assert_eq!(read("Thu, 02 Jan 2025 00:00:01 GMT "), Some(1_735_776_001_000));
        for wrong in ["", "yesterday", "2025-01-01T00:00:00Z", "Wed, 99 Jan 2025 00:00:00 GMT"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(utc_text(1_735_689_600_250), "2025-01-01T00:00:00.250Z");
    }
}
