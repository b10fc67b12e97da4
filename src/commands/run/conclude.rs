//! The end of a run that has sent something: its summary, its exit code and its hook payload.

use std::fmt::Write as _;

use futures_util::TryStreamExt as _;

use super::context::RunContext;
use super::failure_scope::{FailureScope, ScopeJobs};
use super::hook_payload::HookPayload;
use crate::commands::error::{CommandError, Exit};
use crate::commands::import::NamedManifest;
use crate::domain::job::JobState;
use crate::output::RunSummaryText;
use crate::queue::{OpenJobs, Queue, Record, RecordFilter, RunEnding};
use crate::runner::RunReport;

/// The most failed jobs that the summary names.
const FAILED_SHOWN_MAX: u32 = 20;

/// Prints the summary, fills in the hook payload and returns the exit code.
pub(super) async fn conclude(
    ctx: &RunContext<'_>,
    queue: &Queue,
    report: &RunReport,
    scope: &FailureScope,
    named: &NamedManifest<'_>,
    payload: &mut HookPayload,
) -> Result<Exit, CommandError> {
    let RunContext { settings, out, .. } = *ctx;
    let app = settings.app()?;
    let mut counts = queue.counts_of_app(app).await?;
    let OpenJobs { to_send, unapproved } = queue.open_jobs(app, scope.approval).await?;
    let failed = match &scope.jobs {
        ScopeJobs::Batches { named, last } => queue.count_failed(named, *last).await?,
        ScopeJobs::Plan(approval) => {
            counts.pending = to_send.saturating_sub(counts.in_flight);
            queue.failed_of_approval(*approval).await?
        }
    };
    let failed_shown = failed_in_run(report, queue).await?;
    // A job that failed in this run may be superseded since, and still counts.
    let failed = failed.max(failed_shown.len() as u64);
    let in_doubt = queue.count_in_doubt(app).await?;
    payload.record_run(report, counts, [failed, unapproved, in_doubt], &failed_shown);
    let unfinished = named.unfinished_reason(queue).await?;
    let summary = RunSummaryText {
        report,
        counts,
        failed,
        approved: scope.is_plan(),
        unapproved,
        retried: scope.retried_since(queue).await?,
        in_doubt,
        withdrawn: scope.withdrawn_since(app, queue).await?,
        failed_shown: &failed_shown,
        database: &settings.database,
        flags: settings.flags(),
        live_flags: settings.is_sandbox_run.then(|| settings.live_flags()),
    };
    let exit = match report.ending {
        RunEnding::Drained if summary.has_unsent_jobs() => Exit::Stopped,
        RunEnding::Drained if failed == 0 && unfinished.is_none() => Exit::Done,
        RunEnding::Drained => Exit::SomeFailed,
        RunEnding::Signal | RunEnding::TimeLimit | RunEnding::Outage | RunEnding::FailureLimit => {
            Exit::Stopped
        }
        RunEnding::Rejected | RunEnding::Suspicious => Exit::Rejected,
        RunEnding::Error => Exit::Broken,
    };
    let mut text = summary.text();
    // A batch that this run resumed: its failures are in the summary.
    if let Some(unfinished) = unfinished.as_ref().filter(|_| named.is_new() || failed == 0) {
        let _ = write!(text, "\n{unfinished}");
    }
    payload.set_text(&text);
    if exit == Exit::Done && unapproved == 0 {
        out.info(&text);
    } else {
        out.warn(&text);
    }
    Ok(exit)
}

/// The first jobs that failed in this run.
async fn failed_in_run(report: &RunReport, queue: &Queue) -> Result<Vec<Record>, CommandError> {
    let filter = RecordFilter {
        state: Some(JobState::Failed),
        run: Some(report.run),
        limit: Some(FAILED_SHOWN_MAX),
        ..RecordFilter::default()
    };
    Ok(queue.records(filter).try_collect().await?)
}
