//! A run that goes on, in words: the same for the run's own terminal, for `status --watch`
//! in another one, and for a log file. Pure; plain ASCII, so that any terminal shows it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::summary::range_text;
use crate::domain::clock::local_time_text;
use crate::limiter::CloseReason;

/// What a run that goes on has come to.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Jobs with their outcome.
    pub done: u64,
    /// These and all that are left to do.
    pub total: u64,
    /// Of those done, the failed.
    pub failed: u64,
    /// Requests a second of late, and the most that are allowed.
    pub rate: f64,
    /// See `rate`.
    pub limit: f64,
    /// Requests that were refused as too fast.
    pub throttled: u64,
    /// How long the rest takes, if nothing is waited for.
    pub left: Option<RangeInclusive<Duration>>,
    /// What it does just now.
    pub doing: Doing,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has the queue and has sent nothing yet.
    Beginning,
    /// It sends.
    Sending,
    /// The gate is closed.
    Waiting {
        /// Why.
        why: CloseReason,
        /// Since when it does not get through, in UTC milliseconds.
        since_ms: i64,
        /// For how much longer at least; zero: the next try is under way.
        wait: Duration,
    },
    /// It ends, and waits for the answers to its last requests.
    Stopping,
}

impl View {
    /// All of it in one line, for a log.
    pub fn line(&self) -> String {
        format!("{} of {} done, {}", self.done, self.total, self.parts().join(", "))
    }

    /// What stands below the bar, in lines of at most `width` characters.
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
            parts.push(format!("{} too fast", self.throttled));
        }
        if let Some(left) = &self.left {
            parts.push(format!("{} left", range_text(left)));
        }
        parts.extend(self.doing.text());
        parts
    }
}

impl View {
    /// The same a little later, if nothing happens: a wait is shorter.
    #[must_use]
    pub fn later(&self, after: Duration) -> Self {
        let mut later = self.clone();
        if let Doing::Waiting { wait, .. } = &mut later.doing {
            *wait = wait.saturating_sub(after);
        }
        later
    }
}

impl Doing {
    /// Whether the time that is left can be told: an outage may last for any time.
    pub fn has_an_end(self) -> bool {
        matches!(self, Self::Sending | Self::Waiting { why: CloseReason::Frequency, .. })
    }

    /// Nothing needs to be said of a run that sends.
    fn text(self) -> Option<String> {
        match self {
            Self::Beginning => Some("beginning".to_owned()),
            Self::Sending => None,
            Self::Waiting { why, since_ms, wait } => Some(waiting(why, since_ms, wait)),
            Self::Stopping => Some("stopping: waiting for the last answers".to_owned()),
        }
    }
}

fn waiting(why: CloseReason, since_ms: i64, wait: Duration) -> String {
    match why {
        CloseReason::Frequency if wait.is_zero() => {
            "trying again: the service asked us to slow down".to_owned()
        }
        CloseReason::Frequency => {
            format!("waiting {:.1} s: the service asked us to slow down", wait.as_secs_f64())
        }
        CloseReason::Outage => {
            let next = match wait.as_secs_f64().ceil() {
                0.0 => "trying again".to_owned(),
                seconds => format!("next try in {seconds} s"),
            };
            format!("outage since {}, {next}", local_time_text(since_ms))
        }
    }
}

/// Adds `text` in lines of at most `width` characters, broken between words where that is
/// possible.
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

    fn view(doing: Doing) -> View {
        let left = Duration::from_secs(185)..=Duration::from_secs(250);
        let left = (doing == Doing::Sending).then_some(left);
        View {
            done: 902,
            total: 3_000,
            failed: 2,
            rate: 4.93,
            limit: 5.0,
            throttled: 3,
            left,
            doing,
        }
    }

    fn slowed(wait_ms: u64) -> Doing {
        let wait = Duration::from_millis(wait_ms);
        Doing::Waiting { why: CloseReason::Frequency, since_ms: 0, wait }
    }

    #[test]
    fn a_line_says_what_is_done_how_fast_and_what_is_waited_for() {
        assert_eq!(
            view(Doing::Sending).line(),
            "902 of 3000 done, 2 failed, 4.9 of 5 requests/s, 3 too fast, 3 to 4 min left"
        );
        assert_eq!(
            view(slowed(2_140)).line(),
            "902 of 3000 done, 2 failed, 4.9 of 5 requests/s, 3 too fast, \
             waiting 2.1 s: the service asked us to slow down"
        );
    }

    #[test]
    fn an_outage_is_told_with_its_beginning_and_the_next_try() {
        let since_ms = 1_735_689_600_000;
        let at = local_time_text(since_ms);
        for (wait_ms, next) in [(29_200, "next try in 30 s"), (0, "trying again")] {
            let wait = Duration::from_millis(wait_ms);
            let outage = Doing::Waiting { why: CloseReason::Outage, since_ms, wait };
            assert!(view(outage).line().ends_with(&format!("outage since {at}, {next}")));
        }
        assert_eq!((at.len(), &at[2..3]), (5, ":"), "{at}");
    }

    #[test]
    fn forty_columns_of_plain_characters_are_enough() {
        assert_eq!(
            view(slowed(12_000)).lines(40),
            [
                "2 failed, 4.9 of 5 requests/s",
                "3 too fast",
                "waiting 12.0 s: the service asked us to",
                "slow down"
            ]
        );
        for doing in [Doing::Beginning, Doing::Sending, slowed(0), Doing::Stopping] {
            for width in [20, 40, 80] {
                let lines = view(doing).lines(width);
                assert!(
                    lines.iter().all(|line| line.len() <= width && line.is_ascii()),
                    "{lines:?}"
                );
            }
        }
        assert_eq!(view(Doing::Sending).lines(80).len(), 1);
    }
}
