//! Child processes: the only place that starts one.
//!
//! A child never inherits a secret: the variables that hold one are removed from its environment.
//! It runs in a process group of its own, which is terminated on shutdown or after a timeout.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::config::SECRET_VARIABLES;
use crate::domain::clock::Clock;
use crate::output::ignore_broken_pipe;
use crate::runner::{Shutdown, ShutdownMode};

/// After this time a command is terminated.
pub(super) const TIMEOUT: Duration = Duration::from_mins(10);

/// The time between SIGTERM and SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// How often the process group is checked for remaining processes.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HookResult {
    /// By itself.
    Exited(ExitStatus),
    /// Terminated on shutdown.
    Terminated,
    /// Terminated after [`TIMEOUT`].
    TimedOut,
}

/// Runs `command` in a shell with `argument` as `$1` and `stdin` as its input.
pub(super) async fn run_in_shell<C: Clock>(
    command: &str,
    argument: u8,
    stdin: &str,
    clock: &C,
    mut shutdown: Shutdown,
) -> io::Result<HookResult> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "deskbatch", &argument.to_string()]).stdin(Stdio::piped());
    shell.process_group(0);
    for name in SECRET_VARIABLES {
        shell.env_remove(name);
    }
    let mut child = shell.spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pipe = child.stdin.take();
    let result = tokio::select! {
        biased;
        status = write_and_wait(&mut child, pipe, stdin) => {
            return Ok(HookResult::Exited(status?));
        }
        () = shutdown.requested(ShutdownMode::Graceful) => HookResult::Terminated,
        () = clock.sleep_until(clock.now() + TIMEOUT) => HookResult::TimedOut,
    };
    terminate(&mut child, group, clock, shutdown).await?;
    Ok(result)
}

/// Asks a shell whether it inherits SIGHUP as ignored from this process. `None`: it gave no clear
/// answer. Its environment has only PATH.
pub(super) fn ignores_hangup() -> Option<bool> {
    dies_of_hangup(&mut std::process::Command::new("sh")).map(|dies| !dies)
}

fn dies_of_hangup(shell: &mut std::process::Command) -> Option<bool> {
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

/// Writes to the command and waits for its end. A command that does not read its stdin is no error.
async fn write_and_wait(
    child: &mut Child,
    pipe: Option<tokio::process::ChildStdin>,
    text: &str,
) -> io::Result<ExitStatus> {
    // Drops the pipe at its end, so that the reader sees the end of file.
    let write = async {
        match pipe {
            Some(mut pipe) => pipe.write_all(text.as_bytes()).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        biased;
        // A process that the command left behind may hold the pipe open and never read it.
        status = child.wait() => status,
        written = write => {
            let status = child.wait().await?;
            ignore_broken_pipe(written)?;
            Ok(status)
        }
    }
}

/// Sends SIGTERM to the command's process group, and SIGKILL after [`KILL_AFTER`] or on immediate
/// shutdown.
async fn terminate<C: Clock>(
    child: &mut Child,
    group: Option<Pid>,
    clock: &C,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    // No group: the command has ended meanwhile.
    let Some(group) = group else { return Ok(()) };
    // Fails only if no process of the group is left.
    let _ = kill_process_group(group, Signal::TERM);
    let kill_at = clock.now() + KILL_AFTER;
    let all_ended = async {
        child.wait().await?;
        while test_kill_process_group(group).is_ok() {
            clock.sleep_until(clock.now() + POLL_EVERY).await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = all_ended => return ended,
        () = shutdown.requested(ShutdownMode::Immediate) => {}
        () = clock.sleep_until(kill_at) => {}
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
    fn shell_reports_whether_hangup_is_ignored() {
        let by = |way: &[&str]| {
            let mut command = std::process::Command::new("env");
            dies_of_hangup(command.args(way).arg("sh"))
        };
        assert_eq!(by(&["--default-signal=HUP"]), Some(true));
        assert_eq!(by(&["--ignore-signal=HUP"]), Some(false));
    }

    #[tokio::test]
    async fn timed_out_command_dies_with_its_children() {
        let clock = ManualClock::new(0);
        // Both processes hold the pipe: waiting for its end waits for the last of them.
        let (stopper, asked) = shutdown();
        let ended = run_in_shell("sleep 3600 & sleep 3600", 0, "{}\n", &clock, asked);
        let time = async {
            assert_eq!(clock.next_sleeper().await.0, TIMEOUT);
            loop {
                clock.advance_to_next_sleeper().await;
                // Lets the woken task run.
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = ended => assert_eq!(result.unwrap(), HookResult::TimedOut),
            () = time => unreachable!(),
        }
        drop(stopper);
    }
}
