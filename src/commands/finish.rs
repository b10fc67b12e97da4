//! `--on-finish`: what the shell does when a run has ended, however it ended.
//!
//! The only place that starts a process. It gets the summary as one JSON object on its stdin
//! and the exit code as `$1`; it never gets a secret: the variables that hold one are taken
//! from its environment. What it comes to changes nothing of the run.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{CommandError, Exit};
use crate::config::{SECRET_VARIABLES, Settings};
use crate::output::Output;
use crate::runner::{RunReport, Totals};
use crate::store::{QueueCounts, Record};
use crate::verdict::explain;

/// What a run has come to, gathered while it goes on; whatever is not known stays empty.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    run: Option<ToldRun>,
    jobs: Option<QueueCounts>,
    /// Jobs that failed in what the run worked on, earlier runs included.
    failed: u64,
    refused: Vec<ToldJob>,
    /// The summary for people.
    text: String,
}

#[derive(Debug, Serialize)]
struct ToldRun {
    id: i64,
    ending: &'static str,
    took_ms: u64,
    orphans: u64,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct ToldJob {
    question_id: String,
    status: i64,
    code: Option<i64>,
    meaning: Option<&'static str>,
    info: Option<String>,
}

/// What is written to the command's stdin. A later version may add keys; it changes `schema`
/// when one goes or changes its meaning.
#[derive(Serialize)]
struct Summary<'a> {
    schema: u32,
    exit: u8,
    meaning: &'static str,
    error: Option<String>,
    database: String,
    rehearsal: bool,
    sdkappid: Option<u64>,
    library: &'static str,
    finished_ms: i64,
    #[serde(flatten)]
    told: &'a Told,
}

impl Told {
    /// Takes in how the run went; `refused` are the first of those that failed in it.
    pub(super) fn concluded(
        &mut self,
        report: &RunReport,
        jobs: QueueCounts,
        failed: u64,
        refused: &[Record],
    ) {
        self.run = Some(ToldRun {
            id: report.run,
            ending: report.ending.name(),
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            orphans: report.orphans,
            totals: report.totals,
        });
        self.jobs = Some(jobs);
        self.failed = failed;
        self.refused = refused.iter().map(ToldJob::of).collect();
    }

    /// Tells that there was nothing to send; `failed` jobs of what was asked for have failed.
    pub(super) fn nothing_to_do(&mut self, text: &str, failed: u64, out: &Output) -> Exit {
        self.failed = failed;
        self.says(text);
        if failed > 0 {
            out.must_say(text);
            return Exit::SomeFailed;
        }
        out.say(text);
        Exit::Done
    }

    /// Takes in what people are told at the end.
    pub(super) fn says(&mut self, text: &str) {
        text.clone_into(&mut self.text);
    }
}

impl ToldJob {
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

/// Runs the command that `settings` name, if they name one, and waits for it.
pub(super) async fn tell(
    settings: &Settings,
    ended: &Result<Exit, CommandError>,
    told: &Told,
    finished_ms: i64,
    out: &Output,
) {
    let Some(command) = settings.on_finish() else { return };
    let (exit, error) = match ended {
        Ok(exit) => (*exit, None),
        Err(error) => (error.exit(), Some(error.text())),
    };
    let summary = Summary {
        schema: 1,
        exit: exit as u8,
        meaning: exit.meaning(),
        error,
        database: settings.database.display().to_string(),
        rehearsal: settings.rehearsal,
        sdkappid: settings.app().ok().map(|app| app.sdkappid),
        library: settings.library().name(),
        finished_ms,
        told,
    };
    let mut text = serde_json::to_string(&summary).unwrap_or_default();
    text.push('\n');
    let command = command.to_owned();
    let ran = tokio::task::spawn_blocking(move || in_shell(&command, exit, &text)).await;
    let trouble = match ran {
        Ok(Ok(status)) if status.success() => return,
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    out.must_say(&format!("deskbatch: the command of --on-finish failed: {trouble}"));
}

fn in_shell(command: &str, exit: Exit, stdin: &str) -> io::Result<std::process::ExitStatus> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "deskbatch", &(exit as u8).to_string()]).stdin(Stdio::piped());
    for name in SECRET_VARIABLES {
        shell.env_remove(name);
    }
    let mut child = shell.spawn()?;
    // Dropped at the end of the statement, so that its reader comes to an end. A command that
    // does not read is none the worse for it.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(stdin.as_bytes()));
    let status = child.wait()?;
    crate::output::ignore_broken_pipe(written)?;
    Ok(status)
}
