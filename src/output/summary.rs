//! The summary of a run, and counts and durations as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::domain::verdict::{ResponseKind, explain};
use crate::queue::{QueueCounts, Record, Recovery, RunEnding};
use crate::runner::RunReport;
use crate::util::escape::path_text;

/// The inputs of the summary.
#[derive(Debug)]
pub struct RunSummaryText<'a> {
    /// The runner's report.
    pub report: &'a RunReport,
    /// The app's jobs after the run; with a plan only the open jobs of the plan.
    pub counts: QueueCounts,
    /// Failed jobs in the run's scope, those of earlier runs included.
    pub failed: u64,
    /// Whether the run executed an approved plan.
    pub approved: bool,
    /// Pending jobs that the approval does not cover: only deletes, or with a plan any job.
    pub unapproved: u64,
    /// Jobs of the plan that were retried during the run and so are no longer part of the plan.
    pub retried: u64,
    /// The app's jobs that are in doubt after the run.
    pub in_doubt: u64,
    /// Jobs that were cancelled and superseded during the run.
    pub withdrawn: [u64; 2],
    /// The first jobs that failed in this run.
    pub refused: &'a [Record],
    /// The queue file.
    pub database: &'a Path,
    /// The flags that select the queue, with a leading space.
    pub flags: String,
    /// After a sandbox run: the flags of a live run.
    pub live_flags: Option<String>,
}

impl RunSummaryText<'_> {
    /// The text, lines joined.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        let totals = &self.report.totals;
        let _ =
            write!(text, "\n\n  succeeded  {}\n  failed     {}", totals.succeeded, totals.failed);
        for (name, count) in [
            ("pending    ", self.counts.pending),
            ("in flight  ", self.counts.in_flight),
            ("overtaken  ", totals.superseded),
        ] {
            if count > 0 {
                let _ = write!(text, "\n  {name}{count}");
            }
        }
        let seconds = self.report.took.as_secs_f64();
        let _ = write!(
            text,
            "\n  requests   {}: {} refused as too fast, {} without a usable answer\n  time       {seconds:.1} s",
            totals.requests, totals.throttled, totals.transient
        );
        self.write_doubts(&mut text);
        self.write_unapproved(&mut text);
        self.write_refused(&mut text);
        let _ = write!(text, "\n\nthe queue is in {}", path_text(self.database));
        for step in self.next_steps() {
            let _ = write!(text, "\n{step}");
        }
        text
    }

    fn headline(&self) -> String {
        match self.report.ending {
            RunEnding::Drained if self.has_unsent_jobs() => self.unsent_text(),
            RunEnding::Drained if self.failed > 0 => {
                format!(
                    "Finished: nothing is left to send{}{}.",
                    self.failures_text(),
                    self.withdrawn_text()
                )
            }
            RunEnding::Drained if self.withdrawn != [0, 0] => {
                format!("Finished: nothing is left to send{}.", self.withdrawn_text())
            }
            RunEnding::Drained => "Finished: everything asked for is done.".to_owned(),
            RunEnding::Signal => "Stopped as asked; the rest is pending.".to_owned(),
            RunEnding::TimeOver => {
                "Stopped: the time that --max-duration gives was over; the rest is pending."
                    .to_owned()
            }
            RunEnding::Outage if self.is_blocked() => format!(
                "Stopped: the service cannot be reached from here, and waiting does not help; everything left is \
                 pending.\n{}",
                self.last_response_text()
            ),
            RunEnding::Outage => format!(
                "Stopped: nothing got through for too long; the rest is pending.{}",
                self.last_error_text()
            ),
            RunEnding::Refused => format!(
                "Stopped: the service refuses this app or account; everything left is pending.\n{}",
                self.last_response_text()
            ),
            RunEnding::Suspicious => format!(
                "Stopped: every request was rejected, and nothing shows whether the questions are wrong or the call; \
                 everything left is pending.\n{}\n\
                 If the questions are wrong, run again with --rejections-max 0, which fails them.",
                self.last_response_text()
            ),
            RunEnding::TooManyFailures => self.too_many_failures_text(),
            RunEnding::Broken => "Stopped by a fault.".to_owned(),
        }
    }

    /// Whether a drained run leaves jobs of its scope unsent.
    pub fn has_unsent_jobs(&self) -> bool {
        self.counts.pending > 0 || self.retried > 0
    }

    fn unsent_text(&self) -> String {
        if self.retried > 0 {
            return format!(
                "Stopped: {} failed jobs of the plan were retried while it ran; they are pending, and no plan has them.",
                self.retried
            );
        }
        if self.unapproved > 0 {
            return "Stopped: what is left are deletes that were not approved.".to_owned();
        }
        format!("Stopped: {} jobs came as the run ended; they are pending.", self.counts.pending)
    }

    /// Separates the failures of this run from earlier ones.
    fn failures_text(&self) -> String {
        let in_run = self.report.totals.failed;
        match (in_run, self.failed.saturating_sub(in_run)) {
            (0, before) => format!("; {before} jobs failed in an earlier run"),
            (in_run, 0) => format!(", {in_run} jobs failed"),
            (in_run, before) => {
                format!(", {in_run} jobs failed, and {before} more in an earlier run")
            }
        }
    }

    /// The jobs that were cancelled or superseded during the run.
    fn withdrawn_text(&self) -> String {
        match self.withdrawn {
            [0, 0] => String::new(),
            [cancelled, 0] => format!("; {cancelled} were cancelled meanwhile"),
            [0, superseded] => format!("; {superseded} were superseded meanwhile"),
            [cancelled, superseded] => {
                format!("; {cancelled} were cancelled and {superseded} superseded meanwhile")
            }
        }
    }

    /// Advises the user to read the codes first: most likely the manifest is wrong.
    fn too_many_failures_text(&self) -> String {
        let limit = self.report.failures_max.unwrap_or_default();
        format!(
            "Stopped: {} jobs failed in this run, and it was to stop at {limit}; the rest is pending.\n\
             Look at why they were refused first. To go on, run again: it counts anew. To go on whatever fails, leave \
             --max-failures out.",
            self.report.totals.failed
        )
    }

    fn last_response_text(&self) -> String {
        let Some((response, info)) = &self.report.last_error else { return String::new() };
        let said =
            if info.is_empty() { String::new() } else { format!("\nThe service said: {info}") };
        if response.is_local_fault() {
            return format!("The trouble: {response}: {info}\nWhat to do: {}.", response.advice());
        }
        match response {
            ResponseKind::Code(code) => {
                let row = explain(*code);
                format!("{code}: {}.\nWhat to do: {}.{said}", row.meaning, row.advice)
            }
            other => format!("It answered with {other}: {}.{said}", other.advice()),
        }
    }

    /// Whether the run ended without retries because of an error between this machine and the service.
    fn is_blocked(&self) -> bool {
        self.report.last_error.as_ref().is_some_and(|(response, _)| response.is_local_fault())
    }

    /// The last error, because an outage is often a local problem: a certificate, a proxy, DNS.
    fn last_error_text(&self) -> String {
        match &self.report.last_error {
            None => String::new(),
            Some((response, info)) if info.is_empty() => format!("\nThe last trouble: {response}."),
            Some((response, info)) => format!("\nThe last trouble: {response}: {info}"),
        }
    }

    fn write_doubts(&self, text: &mut String) {
        if let Some(recovered) = recovery_text(self.report.recovery) {
            let _ = write!(text, "\n  {recovered}");
        }
        if self.in_doubt > 0 {
            let _ = write!(
                text,
                "\n  {} jobs are in doubt: a request may have changed their question, and nothing since says whether \
                 it did (report --only in-doubt)",
                self.in_doubt
            );
        }
        if self.report.totals.succeeded_in_doubt > 0 {
            let _ = write!(
                text,
                "\n  {} deletions were found done when repeated after a response was lost (report --only response-lost)",
                self.report.totals.succeeded_in_doubt
            );
        }
    }

    fn write_unapproved(&self, text: &mut String) {
        if self.unapproved == 0 {
            return;
        }
        let _ = if self.approved {
            write!(
                text,
                "\n  {} other jobs wait in the queue; they are not in the plan that was approved and were not sent",
                self.unapproved
            )
        } else {
            write!(
                text,
                "\n  {} deletes were imported or retried after the run began; they were not approved and were not sent",
                self.unapproved
            )
        };
    }

    /// Grouped by code, so that each meaning appears once.
    fn write_refused(&self, text: &mut String) {
        if self.refused.is_empty() {
            return;
        }
        text.push_str("\n\nrefused:");
        let mut by_code: BTreeMap<Option<i64>, Vec<&Record>> = BTreeMap::new();
        for record in self.refused {
            by_code.entry(record.error_code).or_default().push(record);
        }
        for (code, records) in by_code.into_iter().rev() {
            match code {
                Some(code) => {
                    let _ = write!(text, "\n  {code}: {}", explain(code).meaning);
                }
                None => text.push_str("\n  without a code:"),
            }
            for record in records {
                let _ = write!(text, "\n    {:7}  {}", record.status, record.question_id);
                if let (None, Some(info)) = (code, &record.error_info) {
                    let _ = write!(text, "  {info}");
                }
            }
        }
        let more = self.report.totals.failed.saturating_sub(self.refused.len() as u64);
        if more > 0 {
            let _ = write!(text, "\n  and {more} more");
        }
    }

    fn next_steps(&self) -> Vec<String> {
        let flags = &self.flags;
        let mut steps = Vec::new();
        let step = |what: &str, command: &str| format!("{what:44}  deskbatch {command}");
        if self.counts.open() > 0 && self.approved {
            steps.push("send what is left of the plan: the same command again".to_owned());
        } else if self.counts.open() > self.unapproved {
            steps.push(step("send what is left:", &format!("run{flags}")));
        }
        if self.failed > 0 {
            let report = format!("report{flags} --only failed -o failed.csv");
            steps.push(step("list what was refused, mend it, import it:", &report));
            let retry = format!("retry{flags}, then run{flags}");
            steps.push(step("or send it again as it is:", &retry));
        }
        if self.unapproved > 0 && self.approved {
            steps.push(step("look at what else waits:", &format!("plan{flags}")));
        } else if self.unapproved > 0 {
            steps.push(step("look at the deletes that are left:", &format!("plan{flags}")));
            steps.push(step("approve and send them:", &format!("run{flags}")));
        }
        if let Some(flags) = self.live_flags.as_ref().filter(|_| self.counts.open() == 0) {
            let real = format!("run FILE{flags}");
            steps.push(step("do it for real, with your account:", &real));
        }
        steps
    }
}

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

/// What the run recovered from runs that died; `None` if nothing.
pub fn recovery_text(recovery: Recovery) -> Option<String> {
    let Recovery { orphans, orphans_withdrawn: withdrawn, .. } = recovery;
    let now = match withdrawn {
        _ if orphans == 0 => return None,
        0 => "are pending again and in doubt".to_owned(),
        _ if withdrawn == orphans => {
            "were cancelled or superseded meanwhile and are in doubt".to_owned()
        }
        _ => format!(
            "are in doubt: {withdrawn} were cancelled or superseded meanwhile, the others are pending again"
        ),
    };
    Some(format!("{orphans} jobs were in flight when an earlier run died; they {now}"))
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
