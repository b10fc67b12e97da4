//! The progress of a run as text, for its own terminal, for `status --watch` and for a log file. Pure;
//! ASCII only, so that any terminal shows it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::phrases::range_text;
use crate::domain::clock::time_of_day_text;
use crate::queue::WaitReason;

/// The progress of a running run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Jobs with an outcome.
    pub done: u64,
    /// `done` and the remaining jobs.
    pub total: u64,
    /// Of `done`, the failed jobs.
    pub failed: u64,
    /// Recent requests per second.
    pub rate: f64,
    /// The rate limit, in requests per second.
    pub limit: f64,
    /// Throttled requests.
    pub throttled: u64,
    /// The ETA, if [`RunActivity::has_eta`].
    pub eta: Option<RangeInclusive<Duration>>,
    pub activity: RunActivity,
}

/// What a run is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunActivity {
    /// The run holds the lock and has sent nothing yet.
    Beginning,
    /// Sending requests.
    Sending,
    /// The run sends nothing for a time.
    Waiting {
        /// The wait reason.
        why: WaitReason,
        /// When the reason for the wait began, in UTC milliseconds.
        since_ms: i64,
        /// The minimum remaining time.
        wait: Duration,
    },
    /// The run is ending and waits for the responses to its last requests.
    Stopping,
}

impl RunView {
    /// One line, for a log.
    pub fn line(&self) -> String {
        format!("{} of {} done, {}", self.done, self.total, self.parts().join(", "))
    }

    /// The text below the bar, in lines of at most `width` characters.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for part in self.parts() {
            match lines.last_mut() {
                Some(line) if line.len() + 2 + part.len() <= width => {
                    line.push_str(", ");
                    line.push_str(&part);
                }
                _ => wrap(&part, width, &mut lines),
            }
        }
        lines
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = vec![format!("{} failed", self.failed)];
        parts.push(format!("{:.1} of {} requests/s", self.rate, self.limit));
        if self.throttled > 0 {
            parts.push(format!("{} throttled", self.throttled));
        }
        if let Some(eta) = &self.eta {
            parts.push(format!("ETA {}", range_text(eta)));
        }
        parts.extend(self.activity.text());
        parts
    }
}

impl RunView {
    /// The view after some time without an event: the remaining wait is shorter.
    #[must_use]
    pub fn later(&self, after: Duration) -> Self {
        let mut later = self.clone();
        if let RunActivity::Waiting { wait, .. } = &mut later.activity {
            *wait = wait.saturating_sub(after);
        }
        later
    }
}

impl RunActivity {
    /// Whether there is an ETA: the length of an outage is unknown.
    pub fn has_eta(self) -> bool {
        matches!(self, Self::Sending | Self::Waiting { why: WaitReason::Throttled, .. })
    }

    /// The text of the activity; `None` while sending.
    fn text(self) -> Option<String> {
        match self {
            Self::Beginning => Some("starting".to_owned()),
            Self::Sending => None,
            Self::Waiting { why, since_ms, wait } => Some(waiting(why, since_ms, wait)),
            Self::Stopping => Some("stopping: waiting for in-flight requests".to_owned()),
        }
    }
}

fn waiting(why: WaitReason, since_ms: i64, wait: Duration) -> String {
    match why {
        WaitReason::Throttled if wait.is_zero() => {
            "throttled by the service, sending one request".to_owned()
        }
        WaitReason::Throttled => {
            format!("throttled by the service, waiting {:.1} s", wait.as_secs_f64())
        }
        WaitReason::NotDue => format!(
            "waiting {} s: no job is due, because earlier requests got no valid response",
            wait.as_secs_f64().ceil()
        ),
        WaitReason::Responses => "stopping: waiting for in-flight requests".to_owned(),
        WaitReason::Outage => {
            let next = match wait.as_secs_f64().ceil() {
                0.0 => "next attempt now".to_owned(),
                seconds => format!("next attempt in {seconds} s"),
            };
            format!("outage since {}, {next}", time_of_day_text(since_ms))
        }
    }
}

/// Adds `text` in lines of at most `width` characters, broken between words where possible.
fn wrap(text: &str, width: usize, lines: &mut Vec<String>) {
    let first = lines.len();
    for word in text.split(' ') {
        match lines[first..].last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(activity: RunActivity) -> RunView {
        let eta = Duration::from_secs(185)..=Duration::from_secs(250);
        let eta = (activity == RunActivity::Sending).then_some(eta);
        RunView {
            done: 902,
            total: 3_000,
            failed: 2,
            rate: 4.93,
            limit: 5.0,
            throttled: 3,
            eta,
            activity,
        }
    }

    fn slowed(wait_ms: u64) -> RunActivity {
        let wait = Duration::from_millis(wait_ms);
        RunActivity::Waiting { why: WaitReason::Throttled, since_ms: 0, wait }
    }

    #[test]
    fn line_has_progress_rate_and_wait() {
        assert_eq!(
            view(RunActivity::Sending).line(),
            "902 of 3000 done, 2 failed, 4.9 of 5 requests/s, 3 throttled, ETA 3 to 4 min"
        );
        assert_eq!(
            view(slowed(2_140)).line(),
            "902 of 3000 done, 2 failed, 4.9 of 5 requests/s, 3 throttled, \
             throttled by the service, waiting 2.1 s"
        );
    }

    #[test]
    fn outage_line_has_start_and_next_attempt() {
        let since_ms = 1_735_689_600_000;
        let at = time_of_day_text(since_ms);
        for (wait_ms, next) in [(29_200, "next attempt in 30 s"), (0, "next attempt now")] {
            let wait = Duration::from_millis(wait_ms);
            let outage = RunActivity::Waiting { why: WaitReason::Outage, since_ms, wait };
            assert!(view(outage).line().ends_with(&format!("outage since {at}, {next}")));
        }
        assert_eq!(at, "00:00 UTC");
    }

    #[test]
    fn text_fits_forty_ascii_columns() {
        assert_eq!(
            view(slowed(12_000)).lines(40),
            [
                "2 failed, 4.9 of 5 requests/s",
                "3 throttled",
                "throttled by the service, waiting 12.0 s"
            ]
        );
        for activity in
            [RunActivity::Beginning, RunActivity::Sending, slowed(0), RunActivity::Stopping]
        {
            for width in [20, 40, 80] {
                let lines = view(activity).lines(width);
                assert!(
                    lines.iter().all(|line| line.len() <= width && line.is_ascii()),
                    "{lines:?}"
                );
            }
        }
        assert_eq!(view(RunActivity::Sending).lines(80).len(), 1);
    }
}
