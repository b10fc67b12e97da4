//! Counts, durations and recurring sentences as text.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::queue::{QueueCounts, Recovery};
use crate::util::count::{choose, counted};

/// Jobs by state, without empty states: `312: 308 succeeded, 4 failed`.
pub fn counts_text(counts: &QueueCounts) -> String {
    let parts: Vec<String> = [
        ("pending", counts.pending),
        ("in flight", counts.in_flight),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("superseded", counts.superseded),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(name, count)| format!("{count} {name}"))
    .collect();
    if parts.is_empty() {
        return "none".to_owned();
    }
    format!("{}: {}", counts.total(), parts.join(", "))
}

/// `4 to 12 requests`, `1 request`.
pub fn requests_text(requests: &RangeInclusive<u64>) -> String {
    let (low, high) = (*requests.start(), *requests.end());
    if low == high { counted(high, "request") } else { format!("{low} to {high} requests") }
}

/// A range of durations in suitable units: `3 to 4 min`, `40 s to 2 min`; `about 3 min` if both ends have the
/// same text.
pub fn range_text(time: &RangeInclusive<Duration>) -> String {
    let (low, low_unit) = time_text(*time.start());
    let (high, high_unit) = time_text(*time.end());
    match (low == high, low_unit == high_unit) {
        (true, true) => format!("about {high} {high_unit}"),
        (false, true) => format!("{low} to {high} {high_unit}"),
        (_, false) => format!("{low} {low_unit} to {high} {high_unit}"),
    }
}

fn time_text(time: Duration) -> (String, &'static str) {
    let seconds = time.as_secs_f64();
    if seconds < 90.0 {
        (format!("{:.0}", seconds.ceil().max(1.0)), "s")
    } else if seconds < 90.0 * 60.0 {
        (format!("{:.0}", seconds / 60.0), "min")
    } else {
        (format!("{:.1}", seconds / 3_600.0), "h")
    }
}

/// How many jobs are in doubt, and what that means.
pub fn in_doubt_text(jobs: u64) -> String {
    let its = choose(jobs, "its question", "their questions");
    format!(
        "{} {} in doubt: a request may have changed {its}, and no later response says whether it did",
        counted(jobs, "job"),
        choose(jobs, "is", "are")
    )
}

/// How many deletions were found applied.
pub fn confirmed_text(deletions: u64) -> String {
    format!(
        "{} had been applied already when sent again after a lost response",
        counted(deletions, "deletion")
    )
}

/// What the run recovered from runs that died; `None` if nothing.
pub fn recovery_text(recovery: Recovery) -> Option<String> {
    let Recovery { orphans, orphans_withdrawn: withdrawn, .. } = recovery;
    let now = match withdrawn {
        _ if orphans == 0 => return None,
        0 => "in doubt, and set back to pending".to_owned(),
        _ if withdrawn == orphans => "in doubt, and cancelled or superseded since".to_owned(),
        _ => format!(
            "in doubt, {withdrawn} of them cancelled or superseded since, the others set back to pending"
        ),
    };
    let jobs = counted(orphans, "job");
    Some(format!("{jobs} had no response when an earlier run ended: {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_has_suitable_units() {
        let text =
            |low, high| range_text(&(Duration::from_millis(low)..=Duration::from_millis(high)));
        assert_eq!(text(200, 900), "about 1 s");
        assert_eq!(text(5_100, 20_000), "6 to 20 s");
        assert_eq!(text(40_000, 121_000), "40 s to 2 min");
        assert_eq!(text(170_000, 190_000), "about 3 min");
        assert_eq!(text(180_000, 250_000), "3 to 4 min");
        assert_eq!(text(4_000_000, 20_000_000), "67 min to 5.6 h");
        assert_eq!(text(20_000_000, 30_000_000), "5.6 to 8.3 h");
    }
}
