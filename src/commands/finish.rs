//! `--on-finish`: what the shell does when a run has ended, however it ended.
//!
//! The only place that starts a process. It gets the summary as one JSON object on its stdin
//! and the exit code as `$1`; it never gets a secret: the variables that hold one are taken
//! from its environment. What it comes to changes nothing of the run. It has a process group of
//! its own, which is ended when a signal comes or it takes too long.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::{CommandError, Exit};
use crate::config::{SECRET_VARIABLES, Settings};
use crate::domain::clock::Clock;
use crate::domain::verdict::explain;
use crate::output::Output;
use crate::runner::{RunReport, Shutdown, ShutdownMode, Totals};
use crate::store::{BatchId, QueueCounts, Record};
use crate::text::path_text;

/// The longest that the command may take.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a command that was told to end is waited for before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether what the command began has ended, too.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a run has come to, gathered while it goes on; whatever is not known stays empty.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    run: Option<ToldRun>,
    jobs: Option<QueueCounts>,
    /// Jobs that failed in what the run worked on, earlier runs included.
    failed: u64,
    /// Pending jobs that the run has left, since its approval does not cover them.
    unapproved: u64,
    /// Jobs of the app that are in doubt.
    in_doubt: u64,
    refused: Vec<ToldJob>,
    /// The summary for people.
    text: String,
    /// The batch of the manifest that was named, for the log.
    #[serde(skip)]
    batch: Option<BatchId>,
}

#[derive(Debug, Serialize)]
struct ToldRun {
    id: i64,
    ending: &'static str,
    took_ms: u64,
    orphans: u64,
    orphans_withdrawn: u64,
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
        [failed, unapproved, in_doubt]: [u64; 3],
        refused: &[Record],
    ) {
        self.run = Some(ToldRun {
            id: report.run,
            ending: report.ending.name(),
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            orphans: report.orphans,
            orphans_withdrawn: report.orphans_withdrawn,
            totals: report.totals,
        });
        self.jobs = Some(jobs);
        self.failed = failed;
        self.unapproved = unapproved;
        self.in_doubt = in_doubt;
        self.refused = refused.iter().map(ToldJob::of).collect();
    }

    /// Tells that there was nothing to send; `failed` jobs of what was asked for have failed, and it
    /// `is_done` otherwise.
    pub(super) fn nothing_to_do(
        &mut self,
        text: &str,
        failed: u64,
        is_done: bool,
        out: &Output,
    ) -> Exit {
        self.failed = failed;
        self.says(text);
        if failed > 0 || !is_done {
            out.must_say(text);
            return Exit::SomeFailed;
        }
        out.say(text);
        Exit::Done
    }

    /// Takes in which batch the manifest that was named is.
    pub(super) fn has_batch(&mut self, batch: Option<BatchId>) {
        self.batch = batch;
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

/// Puts the end of a run into the log, with its figures: of every run, whatever it came to.
/// `took` is the time since the command began.
pub(super) fn log_end(
    ended: &Result<Exit, CommandError>,
    summary: &Told,
    manifest: Option<&Path>,
    took: Duration,
) {
    let exit = ended.as_ref().map_or_else(CommandError::exit, |exit| *exit);
    let (run, jobs) = (summary.run.as_ref(), summary.jobs.as_ref());
    let figure = |of: fn(&Totals) -> u64| run.map(|run| of(&run.totals));
    tracing::info!(
        exit = exit as u8,
        meaning = exit.meaning(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        manifest = manifest.map(path_text),
        batch = summary.batch,
        run = run.map(|run| run.id),
        ending = run.map(|run| run.ending),
        requests = figure(|totals| totals.requests),
        throttled = figure(|totals| totals.throttled),
        transient = figure(|totals| totals.transient),
        succeeded = figure(|totals| totals.succeeded),
        failed = figure(|totals| totals.failed),
        failed_in_all = summary.failed,
        pending = jobs.map(|jobs| jobs.pending),
        in_flight = jobs.map(|jobs| jobs.in_flight),
        "run ended"
    );
}

/// Runs the command that `settings` name, if they name one, and waits for it, unless
/// `shutdown` asks for its end.
pub(super) async fn tell<C: Clock>(
    settings: &Settings,
    ended: &Result<Exit, CommandError>,
    told: &Told,
    clock: &C,
    shutdown: Shutdown,
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
        database: settings.database.to_string_lossy().into_owned(),
        rehearsal: settings.rehearsal,
        sdkappid: settings.app().ok().map(|app| app.sdkappid),
        library: settings.library().name(),
        finished_ms: clock.wall_ms(),
        told,
    };
    let mut text = serde_json::to_string(&summary).unwrap_or_default();
    text.push('\n');
    let trouble = match in_shell(command, exit, &text, clock, shutdown).await {
        Ok(Came::Ended(status)) if status.success() => return,
        Ok(Came::Ended(status)) => format!("failed: {status}"),
        Ok(Came::Stopped) => "was ended by a signal, before it was done".to_owned(),
        Ok(Came::TooLong) => {
            format!("was ended: it was not done within {} min", LONGEST.as_secs() / 60)
        }
        Err(error) => format!("failed: {error}"),
    };
    out.must_say(&format!("deskbatch: the command of --on-finish {trouble}"));
}

/// What came of the command.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It was ended, as asked.
    Stopped,
    /// It was ended after [`LONGEST`].
    TooLong,
}

async fn in_shell<C: Clock>(
    command: &str,
    exit: Exit,
    stdin: &str,
    clock: &C,
    mut shutdown: Shutdown,
) -> io::Result<Came> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "deskbatch", &(exit as u8).to_string()]).stdin(Stdio::piped());
    shell.process_group(0);
    for name in SECRET_VARIABLES {
        shell.env_remove(name);
    }
    let mut child = shell.spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pipe = child.stdin.take();
    let came = tokio::select! {
        biased;
        status = told(&mut child, pipe, stdin) => return Ok(Came::Ended(status?)),
        () = shutdown.requested(ShutdownMode::Graceful) => Came::Stopped,
        () = clock.sleep_until(clock.now() + LONGEST) => Came::TooLong,
    };
    end(&mut child, group, clock, shutdown).await?;
    Ok(came)
}

/// Asks a shell whether SIGHUP is ignored, by this process and so by its child; it has no
/// environment but the path. `None`: it could not say.
pub(super) fn shell_ignores_hangup() -> Option<bool> {
    ends_by_hangup(&mut std::process::Command::new("sh")).map(|ends| !ends)
}

fn ends_by_hangup(shell: &mut std::process::Command) -> Option<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    shell.args(["-c", "kill -HUP $$"]).env_clear().env("PATH", path);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = shell.status().ok()?;
    match (status.signal(), status.code()) {
        (Some(signal), _) => Some(signal == Signal::HUP.as_raw()),
        (None, Some(0)) => Some(false),
        _ => None,
    }
}

/// Writes to the command and waits for its end. One that does not read is none the worse for it.
async fn told(
    child: &mut Child,
    pipe: Option<tokio::process::ChildStdin>,
    text: &str,
) -> io::Result<ExitStatus> {
    // Dropped when all is written, so that its reader comes to an end.
    let write = async {
        match pipe {
            Some(mut pipe) => pipe.write_all(text.as_bytes()).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        biased;
        // What it has left behind may have the pipe still, and never read.
        status = child.wait() => status,
        written = write => {
            let status = child.wait().await?;
            crate::output::ignore_broken_pipe(written)?;
            Ok(status)
        }
    }
}

/// Asks the command and all that it began to end, and kills what does not, soon or when asked
/// to end at once.
async fn end<C: Clock>(
    child: &mut Child,
    group: Option<Pid>,
    clock: &C,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    // No group: it has ended meanwhile.
    let Some(group) = group else { return Ok(()) };
    // A signal that finds nobody has nothing to do.
    let _ = kill_process_group(group, Signal::TERM);
    let patience = clock.now() + ENDS_WITHIN;
    let gone = async {
        child.wait().await?;
        while test_kill_process_group(group).is_ok() {
            clock.sleep_until(clock.now() + LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = gone => return ended,
        () = shutdown.requested(ShutdownMode::Immediate) => {}
        () = clock.sleep_until(patience) => {}
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::runner::shutdown;

    #[test]
    fn shell_says_whether_hangup_is_ignored() {
        let by = |way: &[&str]| {
            let mut command = std::process::Command::new("env");
            ends_by_hangup(command.args(way).arg("sh"))
        };
        assert_eq!(by(&["--default-signal=HUP"]), Some(true));
        assert_eq!(by(&["--ignore-signal=HUP"]), Some(false));
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended_with_all_that_it_began() {
        let clock = ManualClock::new(0);
        // Whatever waits for the pipe waits for the last process that has it.
        let (stopper, asked) = shutdown();
        let ended = in_shell("sleep 3600 & sleep 3600", Exit::Done, "{}\n", &clock, asked);
        let time = async {
            assert_eq!(clock.next_sleeper().await.0, LONGEST);
            loop {
                clock.advance_to_next_sleeper().await;
                // Whoever was woken has to be let on.
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            came = ended => assert_eq!(came.unwrap(), Came::TooLong),
            () = time => unreachable!(),
        }
        drop(stopper);
    }
}
