//! A line that the terminal does not show.
//!
//! SIGINT and SIGTERM are handled before the echo is switched off: by default they would end the process and
//! leave the terminal without echo.

use std::io::{self, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Shows `prompt` and reads a line from stdin, which is a terminal; `None` at the end of the input, on an error
/// and on a signal.
pub(super) fn read(prompt: &str) -> Option<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // The line end is shown, so that the next output begins on its own line.
    hidden.local_modes.insert(LocalModes::ECHONL);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let line = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).ok()?;
        let mut terminate = signal(SignalKind::terminate()).ok()?;
        tcsetattr(&stdin, OptionalActions::Now, &hidden).ok()?;
        let _ = write!(io::stderr(), "{prompt} ");
        tokio::select! {
            line = tokio::task::spawn_blocking(read_line) => line.ok()?,
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        }
    });
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    // Does not wait for the thread that still reads after a signal.
    runtime.shutdown_background();
    restored.ok()?;
    line
}

fn read_line() -> Option<String> {
    let mut line = String::new();
    matches!(io::stdin().read_line(&mut line), Ok(1..)).then_some(line)
}
