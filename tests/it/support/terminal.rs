//! Helpers for tests on a real terminal.

use std::process::{Command, Stdio};

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

/// A test fails if the program takes longer than this.
const PATIENCE_MS: u64 = 60_000;

/// `command` on a pseudoterminal of its own.
pub fn on_terminal(mut command: Command) -> PtySession {
    command.stdin(Stdio::inherit()).env("TERM", "xterm");
    spawn_command(command, Some(PATIENCE_MS)).unwrap()
}

/// The same with this number of columns.
pub fn on_terminal_of(columns: u16, command: &Command) -> PtySession {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("stty rows 24 cols {columns} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    on_terminal(shell)
}

/// Waits for the end, checks the exit code and returns the output since the last wait.
#[track_caller]
pub fn closes(mut terminal: PtySession, code: i32) -> String {
    let shown = terminal.exp_eof().unwrap();
    match terminal.process().wait().unwrap() {
        WaitStatus::Exited(_, ended) => assert_eq!(ended, code, "{shown}"),
        other => panic!("{other:?}: {shown}"),
    }
    shown
}
