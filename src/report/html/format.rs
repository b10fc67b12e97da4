//! Numbers, times and run endings as text.

use maud::{Markup, html};

use crate::domain::clock::utc_text;
use crate::util::count::choose;

/// `12,345`.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// [`number`] for a column that is never negative.
pub(super) fn figure(n: i64) -> String {
    number(u64::try_from(n).unwrap_or_default())
}

/// `1 question`, `12,345 questions`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), choose(n, one, many))
}

/// [`counted`] for a column that is never negative.
pub(super) fn figures(n: i64, one: &str, many: &str) -> String {
    counted(u64::try_from(n).unwrap_or_default(), one, many)
}

/// `2025-01-01 00:00:00`, in UTC.
pub(super) fn moment(ms: i64) -> String {
    let text = utc_text(ms);
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => text,
    }
}

/// [`moment`] with a machine-readable attribute.
pub(super) fn time(ms: i64) -> Markup {
    html! { time datetime=(utc_text(ms)) { (moment(ms)) } }
}

/// `0.4 s`, `9.3 s`, `2 min 5 s`, `3 h 20 min`, `2 d 3 h`.
pub(super) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0..60 => format!("{}.{} s", seconds, ms.max(0) % 1_000 / 100),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Requests per second, with significant digits only.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{per_second:.0}")
    } else if per_second >= 0.095 {
        let text = format!("{per_second:.1}");
        text.trim_end_matches(".0").to_owned()
    } else {
        format!("{per_second:.4}")
    }
}

/// `count` in `span_ms`, per second.
#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(super) fn per_second(count: u64, span_ms: i64) -> f64 {
    count as f64 * 1_000.0 / span_ms.max(1) as f64
}

/// The text of a run's ending.
pub(super) fn ending(word: &str) -> &str {
    match word {
        "drained" => "finished",
        "signal" => "stopped by a signal",
        "time_limit" => "stopped: --max-duration was reached",
        "outage" => "stopped: no request succeeded within --outage-timeout",
        "rejected" => "stopped: the service rejected this app or account",
        "suspicious" => "stopped: every request was rejected",
        "failure_limit" => "stopped: --max-failures was reached",
        "error" => "stopped by an internal error",
        "died" => "died before its end",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_lengths_are_formatted() {
        assert_eq!(
            [0, 999, 1_000, 12_345, 1_234_567].map(number).join(" "),
            "0 999 1,000 12,345 1,234,567"
        );
        assert_eq!(counted(1, "job", "jobs") + " " + &counted(0, "job", "jobs"), "1 job 0 jobs");
        assert_eq!(moment(1_735_689_600_250), "2025-01-01 00:00:00");
        let lengths = [-5, 0, 450, 9_390, 125_000, 12_000_000, 180_000_000].map(length);
        assert_eq!(
            lengths.join(", "),
            "0.0 s, 0.0 s, 0.4 s, 9.3 s, 2 min 5 s, 3 h 20 min, 2 d 2 h"
        );
        assert_eq!([5.0, 4.86, 0.1, 0.001, 200.0].map(rate).join(" "), "5 4.9 0.1 0.0010 200");
    }
}
