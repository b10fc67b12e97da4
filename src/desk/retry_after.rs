//! The wait that a response requests: the `Retry-After` header.
//!
//! Pure. Returns every value; the breaker limits it.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::domain::clock::read_http_date_ms;

/// A number of seconds, or a date. A date is compared with the `Date` header of the same response, if any,
/// because the clocks of the machines differ.
pub(super) fn retry_after(headers: &HeaderMap, wall_ms: i64) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let wait = text(RETRY_AFTER)?.trim();
    if !wait.is_empty() && wait.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(wait.parse().unwrap_or(u64::MAX)));
    }
    let until_ms = read_http_date_ms(wait)?;
    let now_ms = text(DATE).and_then(read_http_date_ms).unwrap_or(wall_ms);
    Some(Duration::from_millis(u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const WALL_MS: i64 = 1_735_689_600_000;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let half_past = "Wed, 01 Jan 2025 00:00:30 GMT";
        for (asked, date, seconds) in [
            ("7", None, Some(7)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999", None, Some(u64::MAX)),
            (half_past, None, Some(30)),
            (half_past, Some("Wed, 01 Jan 2025 00:00:20 GMT"), Some(10)),
            (half_past, Some("Thu, 02 Jan 2025 00:00:20 GMT"), Some(0)),
            (half_past, Some("today"), Some(30)),
            ("soon", None, None),
            ("-7", None, None),
            ("7.5", None, None),
            ("", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(asked));
            date.map(|date| headers.insert(DATE, HeaderValue::from_static(date)));
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, WALL_MS), expected, "{asked} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), WALL_MS), None);
    }
}
