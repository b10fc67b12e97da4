//! The summary of a run, and counts and durations as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::phrases::{confirmed_text, in_doubt_text, recovery_text};
use crate::domain::verdict::{ResponseKind, explain};
use crate::queue::{QueueCounts, Record, RunEnding};
use crate::runner::RunReport;
use crate::util::count::{choose, counted};
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
    pub failed_shown: &'a [Record],
    /// The queue file.
    pub database: &'a Path,
    /// The flags that select the queue, with a leading space.
    pub flags: String,
    /// After a sandbox run: the flags of a live run.
    pub live_flags: Option<String>,
}

/// After an early end.
const REMAINING: &str = "The remaining jobs stay pending.";

impl RunSummaryText<'_> {
    /// The text, lines joined.
    pub fn text(&self) -> String {
        let mut text = self.headline();
        let totals = &self.report.totals;
        let _ =
            write!(text, "\n\n  succeeded   {}\n  failed      {}", totals.succeeded, totals.failed);
        if self.counts.pending > 0 {
            let _ = write!(text, "\n  pending     {}", self.counts.pending);
        }
        if self.counts.in_flight > 0 {
            let note = "no response; the next run sends them again";
            let _ = write!(text, "\n  in flight   {} ({note})", self.counts.in_flight);
        }
        let seconds = self.report.took.as_secs_f64();
        let _ = write!(
            text,
            "\n  requests    {} ({} throttled, {} without a valid response)\n  time        {seconds:.1} s",
            totals.requests, totals.throttled, totals.transient
        );
        self.write_doubts(&mut text);
        self.write_unapproved(&mut text);
        self.write_failed(&mut text);
        let _ = write!(text, "\n\nqueue: {}", path_text(self.database));
        for step in self.next_steps() {
            let _ = write!(text, "\n{step}");
        }
        text
    }

    fn headline(&self) -> String {
        match self.report.ending {
            RunEnding::Drained if self.has_unsent_jobs() => self.unsent_text(),
            RunEnding::Drained => self.finished_text(),
            RunEnding::Signal => format!("Stopped by a signal. {REMAINING}"),
            RunEnding::TimeLimit => {
                format!("Stopped: the time of --max-duration is over. {REMAINING}")
            }
            RunEnding::Outage if self.is_blocked() => format!(
                "Stopped: this host cannot reach the service, and waiting does not help. {REMAINING}\n{}",
                self.last_response_text()
            ),
            RunEnding::Outage => format!(
                "Stopped: no request succeeded within --outage-timeout. {REMAINING}{}",
                self.last_error_text()
            ),
            RunEnding::Rejected => format!(
                "Stopped: the service rejects this app or account. {REMAINING}\n{}",
                self.last_response_text()
            ),
            RunEnding::Suspicious => format!(
                "Stopped: every request was rejected, and it is unknown whether the questions or the requests are \
                 wrong. {REMAINING}\n{}\n\
                 If the questions are wrong, run again with --max-rejections 0: their jobs fail then.",
                self.last_response_text()
            ),
            RunEnding::FailureLimit => self.too_many_failures_text(),
            RunEnding::Error => "Stopped by an internal error.".to_owned(),
        }
    }

    /// Whether a drained run leaves jobs of its scope unsent.
    pub fn has_unsent_jobs(&self) -> bool {
        self.counts.pending > 0 || self.retried > 0
    }

    fn unsent_text(&self) -> String {
        if self.retried > 0 {
            return format!(
                "Stopped: {} of the plan {} retried during the run. {} pending and no longer part of the plan.",
                counted(self.retried, "failed job"),
                choose(self.retried, "was", "were"),
                choose(self.retried, "It is", "They are")
            );
        }
        if self.unapproved > 0 {
            return format!(
                "Stopped: {} {} pending and not confirmed.",
                counted(self.unapproved, "deletion"),
                choose(self.unapproved, "is", "are")
            );
        }
        let pending = self.counts.pending;
        format!(
            "Stopped: {} {} imported as the run ended. {REMAINING}",
            counted(pending, "job"),
            choose(pending, "was", "were")
        )
    }

    /// The outcomes of this run, apart from the failures of earlier ones.
    fn finished_text(&self) -> String {
        let totals = &self.report.totals;
        let mut parts = vec![format!("{} succeeded", totals.succeeded)];
        if totals.failed > 0 {
            parts.push(format!("{} failed", totals.failed));
        }
        let [cancelled, superseded] = self.withdrawn;
        for (count, what) in [
            (self.failed.saturating_sub(totals.failed), "failed in an earlier run"),
            (cancelled, "cancelled during the run"),
            (superseded, "superseded during the run"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        format!("Finished: {}.", parts.join(", "))
    }

    /// Advises the user to read the codes first: most likely the manifest is wrong.
    fn too_many_failures_text(&self) -> String {
        let limit = self.report.failures_max.unwrap_or_default();
        format!(
            "Stopped: {} failed in this run, and the limit of --max-failures is {limit}. {REMAINING}\n\
             Read the error codes first. To continue, run again: the count starts at 0. To continue whatever fails, \
             omit --max-failures.",
            counted(self.report.totals.failed, "job")
        )
    }

    fn last_response_text(&self) -> String {
        let Some((response, info)) = &self.report.last_error else { return String::new() };
        let message = if info.is_empty() {
            String::new()
        } else {
            format!("\nMessage of the service: {info}")
        };
        if response.is_local_fault() {
            let cause = described(response, info);
            return format!("Cause: {cause}\nWhat to do: {}.", response.advice());
        }
        match response {
            ResponseKind::Code(code) => {
                let row = explain(*code);
                format!("{code}: {}.\nWhat to do: {}.{message}", row.meaning, row.advice)
            }
            other => format!("Last response: {other}.\nWhat to do: {}.{message}", other.advice()),
        }
    }

    /// Whether the run ended without retries because of an error between this host and the service.
    fn is_blocked(&self) -> bool {
        self.report.last_error.as_ref().is_some_and(|(response, _)| response.is_local_fault())
    }

    /// The last error, because an outage is often a local problem: a certificate, a proxy, DNS.
    fn last_error_text(&self) -> String {
        match &self.report.last_error {
            None => String::new(),
            Some((response, info)) => format!("\nLast error: {}", described(response, info)),
        }
    }

    fn write_doubts(&self, text: &mut String) {
        let flags = &self.flags;
        if let Some(recovered) = recovery_text(self.report.recovery) {
            let _ = write!(text, "\n  {recovered}");
        }
        if self.in_doubt > 0 {
            let _ = write!(
                text,
                "\n  {} (deskbatch report{flags} --state in-doubt)",
                in_doubt_text(self.in_doubt)
            );
        }
        if self.report.totals.succeeded_in_doubt > 0 {
            let _ = write!(
                text,
                "\n  {} (deskbatch report{flags} --state response-lost)",
                confirmed_text(self.report.totals.succeeded_in_doubt)
            );
        }
    }

    fn write_unapproved(&self, text: &mut String) {
        let n = self.unapproved;
        let _ = match (n, self.approved) {
            (0, _) => return,
            (_, true) => write!(
                text,
                "\n  {} {} pending: not part of the approved plan, and not sent",
                counted(n, "other job"),
                choose(n, "is", "are")
            ),
            (_, false) => write!(
                text,
                "\n  {} {} imported or retried during the run: not confirmed, and not sent",
                counted(n, "deletion"),
                choose(n, "was", "were")
            ),
        };
    }

    /// Grouped by code, so that each meaning appears once.
    fn write_failed(&self, text: &mut String) {
        if self.failed_shown.is_empty() {
            return;
        }
        text.push_str("\n\nfailed questions:");
        let mut by_code: BTreeMap<Option<i64>, Vec<&Record>> = BTreeMap::new();
        for record in self.failed_shown {
            by_code.entry(record.error_code).or_default().push(record);
        }
        for (code, records) in by_code.into_iter().rev() {
            match code {
                Some(code) => {
                    let _ = write!(text, "\n  {code}: {}", explain(code).meaning);
                }
                None => text.push_str("\n  without an error code:"),
            }
            for record in records {
                let _ = write!(text, "\n    {:7}  {}", record.status, record.question_id);
                if let (None, Some(info)) = (code, &record.error_info) {
                    let _ = write!(text, "  {info}");
                }
            }
        }
        let more = self.report.totals.failed.saturating_sub(self.failed_shown.len() as u64);
        if more > 0 {
            let _ = write!(text, "\n  and {more} more");
        }
    }

    fn next_steps(&self) -> Vec<String> {
        let flags = &self.flags;
        let mut steps = Vec::new();
        let step = |what: &str, command: &str| format!("{what:39}  deskbatch {command}");
        if self.counts.open() > 0 && self.approved {
            steps.push("to resume the plan, run the same command again".to_owned());
        } else if self.counts.open() > self.unapproved {
            steps.push(step("send the remaining jobs:", &format!("run{flags}")));
        }
        if self.report.ending == RunEnding::Outage {
            steps.push(step("find the cause:", &format!("doctor{flags}")));
        }
        if self.report.ending == RunEnding::Outage {
            steps.push(step("find the cause:", &format!("doctor{flags}")));
        }
        if self.failed > 0 {
            let report = format!("report{flags} --state failed -o failed.csv");
            steps.push(step("export the failed jobs to correct them:", &report));
            let retry = format!("retry{flags} && deskbatch run{flags}");
            steps.push(step("or retry them unchanged:", &retry));
        }
        if self.unapproved > 0 && self.approved {
            steps.push(step("show the other pending jobs:", &format!("plan{flags}")));
        } else if self.unapproved > 0 {
            steps.push(step("show the deletions:", &format!("plan{flags}")));
            steps.push(step("confirm and send them:", &format!("run{flags}")));
        }
        if let Some(flags) = self.live_flags.as_ref().filter(|_| self.counts.open() == 0) {
            steps
                .push(step("send to the service, with your account:", &format!("run FILE{flags}")));
        }
        steps
    }
}

/// What came back, and the details, which may begin with the same words.
fn described(response: &ResponseKind, info: &str) -> String {
    let kind = response.to_string();
    if info.is_empty() {
        format!("{kind}.")
    } else if info.starts_with(&kind) {
        info.to_owned()
    } else {
        format!("{kind}: {info}")
    }
}
