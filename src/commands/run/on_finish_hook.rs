//! The `--on-finish` hook: a shell command that runs after every run, whatever its exit code.
//!
//! It gets the summary as one JSON object on stdin and the exit code as `$1`, and never a secret.
//! Its own result does not change the run's.

use super::hook_payload::HookPayload;
use crate::commands::error::{CommandError, Exit};
use crate::commands::shell::{HookResult, TIMEOUT, run_in_shell};
use crate::config::Settings;
use crate::domain::clock::Clock;
use crate::output::Output;
use crate::runner::Shutdown;

/// Runs the hook of `settings`, if there is one, and waits for it. `shutdown` terminates it.
pub(super) async fn run_hook<C: Clock>(
    settings: &Settings,
    result: &Result<Exit, CommandError>,
    payload: &HookPayload,
    clock: &C,
    shutdown: Shutdown,
    out: &Output,
) {
    let Some(command) = settings.on_finish() else { return };
    let (exit, error) = match result {
        Ok(exit) => (*exit, None),
        Err(error) => (error.exit(), Some(error.text())),
    };
    let json = payload.to_json(settings, exit, error, clock.wall_ms());
    let problem = match run_in_shell(command, exit as u8, &json, clock, shutdown).await {
        Ok(HookResult::Exited(status)) if status.success() => return,
        Ok(HookResult::Exited(status)) => format!("failed: {status}"),
        Ok(HookResult::Terminated) => "was terminated by a signal".to_owned(),
        Ok(HookResult::TimedOut) => {
            format!("was terminated after {} min", TIMEOUT.as_secs() / 60)
        }
        Err(error) => format!("cannot be run: {error}"),
    };
    out.warn(&format!("warning: the --on-finish command {problem}"));
}
