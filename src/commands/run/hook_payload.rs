//! What the `--on-finish` hook and the log get to know about a run.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::commands::error::{CommandError, Exit};
use crate::config::Settings;
use crate::domain::verdict::explain;
use crate::output::Output;
use crate::queue::{BatchId, QueueCounts, Record};
use crate::runner::{RunReport, Totals};
use crate::util::escape::path_text;

/// The results of a run, collected while it goes through its steps; a step that was not reached
/// leaves its fields empty. The field names are the JSON keys of `--on-finish`.
#[derive(Debug, Default, Serialize)]
pub(super) struct HookPayload {
    run: Option<RunJson>,
    jobs: Option<QueueCounts>,
    /// Failed jobs in the run's scope, those of earlier runs included.
    failed: u64,
    /// Jobs that stay pending because the run's approval does not cover them.
    unapproved: u64,
    /// Jobs of the app that are in doubt.
    in_doubt: u64,
    refused: Vec<FailedJobJson>,
    /// The summary as the user sees it.
    text: String,
    /// The batch of the named manifest; for the log.
    #[serde(skip)]
    batch: Option<BatchId>,
}

#[derive(Debug, Serialize)]
struct RunJson {
    id: i64,
    ending: &'static str,
    took_ms: u64,
    orphans: u64,
    orphans_withdrawn: u64,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct FailedJobJson {
    question_id: String,
    status: i64,
    code: Option<i64>,
    meaning: Option<&'static str>,
    info: Option<String>,
}

/// The JSON object on the hook's stdin. `schema` changes when a key is removed or changes its
/// meaning; new keys may be added without that.
#[derive(Serialize)]
struct PayloadJson<'a> {
    schema: u32,
    exit: u8,
    meaning: &'static str,
    error: Option<String>,
    database: String,
    #[serde(rename = "rehearsal")]
    is_sandbox_run: bool,
    sdkappid: Option<u64>,
    library: &'static str,
    finished_ms: i64,
    #[serde(flatten)]
    payload: &'a HookPayload,
}

impl HookPayload {
    /// Records the results of a run that sent something; `refused` are the first jobs that failed in
    /// it.
    pub(super) fn record_run(
        &mut self,
        report: &RunReport,
        jobs: QueueCounts,
        [failed, unapproved, in_doubt]: [u64; 3],
        refused: &[Record],
    ) {
        self.run = Some(RunJson {
            id: report.run,
            ending: report.ending.name(),
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            orphans: report.recovery.orphans,
            orphans_withdrawn: report.recovery.orphans_withdrawn,
            totals: report.totals,
        });
        self.jobs = Some(jobs);
        self.failed = failed;
        self.unapproved = unapproved;
        self.in_doubt = in_doubt;
        self.refused = refused.iter().map(FailedJobJson::of).collect();
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
        let mut text = serde_json::to_string(&json).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl FailedJobJson {
    fn of(record: &Record) -> Self {
        Self {
            question_id: record.question_id.clone(),
            status: record.status.code(),
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
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
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
