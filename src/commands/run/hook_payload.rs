//! What the `--on-finish` hook and the log get to know about a run.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::commands::error::{CommandError, Exit};
use crate::config::Settings;
use crate::domain::verdict::explain;
use crate::output::{Output, json_line};
use crate::queue::{BatchId, QueueCounts, Record};
use crate::runner::{RunReport, Totals};
use crate::util::escape::path_text;

/// The results of a run, collected while it goes through its steps; a step that was not reached
/// leaves its fields empty.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HookPayload {
    /// The run; null if it ended before it sent anything.
    run: Option<RunJson>,
    /// Jobs of the app by state after the run; null if the run sent nothing.
    jobs: Option<QueueCounts>,
    /// Failed jobs of the run's batches or plan, those of earlier runs included.
    failed: u64,
    /// Jobs that stay pending because they are not confirmed or not part of the approved plan.
    unapproved: u64,
    /// Jobs of the app that are in doubt.
    in_doubt: u64,
    /// The first 20 jobs that failed in this run.
    failed_jobs: Vec<FailedJobJson>,
    /// The summary as printed.
    text: String,
    /// The batch of the named manifest; for the log.
    #[serde(skip)]
    batch: Option<BatchId>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunJson {
    /// Number of the run.
    id: i64,
    /// Why the run ended: drained, signal, `time_limit`, outage, rejected, suspicious, `failure_limit` or error.
    ending: &'static str,
    /// Time of the run, in milliseconds.
    duration_ms: u64,
    /// Jobs that were in flight when an earlier run died.
    orphans: u64,
    /// Of `orphans`, those cancelled or superseded since.
    orphans_withdrawn: u64,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FailedJobJson {
    /// The question id.
    question_id: String,
    /// The target status: enable, disable or delete.
    status: &'static str,
    /// The error code; null if there was none.
    code: Option<i64>,
    /// The meaning of the code.
    meaning: Option<&'static str>,
    /// The message of the service; without a code, the reason of the failure.
    info: Option<String>,
}

/// The JSON object on the stdin of the `--on-finish` command.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::commands) struct PayloadJson<'a> {
    /// Version of this format. It changes when a field is removed or changes its meaning.
    schema: u32,
    /// Exit code of the run.
    exit: u8,
    /// Meaning of the exit code.
    meaning: &'static str,
    /// Error text of a run that failed; null otherwise.
    error: Option<String>,
    /// Path of the queue file.
    database: String,
    /// Whether the run sent to a local sandbox.
    #[serde(rename = "sandbox")]
    is_sandbox_run: bool,
    /// SDKAppID of the app; null if it is not set.
    sdkappid: Option<u64>,
    /// Library of the app: chitchat or faq.
    library: &'static str,
    /// Time of the end, in UTC milliseconds since 1970.
    finished_ms: i64,
    #[serde(flatten)]
    payload: &'a HookPayload,
}

impl HookPayload {
    /// Records the results of a run that sent something; `failed_jobs` are the first jobs that failed
    /// in it.
    pub(super) fn record_run(
        &mut self,
        report: &RunReport,
        jobs: QueueCounts,
        [failed, unapproved, in_doubt]: [u64; 3],
        failed_jobs: &[Record],
    ) {
        self.run = Some(RunJson {
            id: report.run,
            ending: report.ending.name(),
            duration_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            orphans: report.recovery.orphans,
            orphans_withdrawn: report.recovery.orphans_withdrawn,
            totals: report.totals,
        });
        self.jobs = Some(jobs);
        self.failed = failed;
        self.unapproved = unapproved;
        self.in_doubt = in_doubt;
        self.failed_jobs = failed_jobs.iter().map(FailedJobJson::of).collect();
    }

    /// Records and prints that there was nothing to send, and returns the exit code. `failed` jobs
    /// of what was asked for have failed; apart from them it `is_done`.
    pub(super) fn record_nothing_to_do(
        &mut self,
        text: &str,
        failed: u64,
        is_done: bool,
        out: &Output,
    ) -> Exit {
        self.failed = failed;
        self.set_text(text);
        if failed > 0 || !is_done {
            out.warn(text);
            return Exit::SomeFailed;
        }
        out.info(text);
        Exit::Done
    }

    /// Sets how many jobs of the app are in doubt.
    pub(super) fn set_in_doubt(&mut self, jobs: u64) {
        self.in_doubt = jobs;
    }

    /// Sets the batch of the named manifest.
    pub(super) fn set_batch(&mut self, batch: Option<BatchId>) {
        self.batch = batch;
    }

    /// Sets the summary text.
    pub(super) fn set_text(&mut self, text: &str) {
        text.clone_into(&mut self.text);
    }

    /// One JSON object on one line.
    pub(super) fn to_json(
        &self,
        settings: &Settings,
        exit: Exit,
        error: Option<String>,
        finished_ms: i64,
    ) -> String {
        let json = PayloadJson {
            schema: 1,
            exit: exit as u8,
            meaning: exit.meaning(),
            error,
            database: settings.database.to_string_lossy().into_owned(),
            is_sandbox_run: settings.is_sandbox_run,
            sdkappid: settings.app().ok().map(|app| app.sdkappid),
            library: settings.library().name(),
            finished_ms,
            payload: self,
        };
        json_line(&json)
    }
}

impl FailedJobJson {
    fn of(record: &Record) -> Self {
        Self {
            question_id: record.question_id.clone(),
            status: record.status.name(),
            code: record.error_code,
            meaning: record.error_code.map(|code| explain(code).meaning),
            info: record.error_info.clone(),
        }
    }
}

/// Logs the end of every run with its figures, whatever its result. `took` is the time since the
/// command began.
pub(super) fn log_run_ended(
    result: &Result<Exit, CommandError>,
    payload: &HookPayload,
    manifest: Option<&Path>,
    took: Duration,
) {
    let exit = result.as_ref().map_or_else(CommandError::exit, |exit| *exit);
    let (run, jobs) = (payload.run.as_ref(), payload.jobs.as_ref());
    let figure = |of: fn(&Totals) -> u64| run.map(|run| of(&run.totals));
    tracing::info!(
        exit = exit as u8,
        meaning = exit.meaning(),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        manifest = manifest.map(path_text),
        batch = payload.batch,
        run = run.map(|run| run.id),
        ending = run.map(|run| run.ending),
        requests = figure(|totals| totals.requests),
        throttled = figure(|totals| totals.throttled),
        transient = figure(|totals| totals.transient),
        succeeded = figure(|totals| totals.succeeded),
        failed = figure(|totals| totals.failed),
        failed_in_all = payload.failed,
        pending = jobs.map(|jobs| jobs.pending),
        in_flight = jobs.map(|jobs| jobs.in_flight),
        "run ended"
    );
}
