//! Signals: SIGINT, SIGTERM and SIGHUP request a shutdown, SIGXFSZ becomes a write error.
//!
//! The first signal is a graceful shutdown, which waits for requests in flight or rolls an import
//! back; the second is immediate.

use std::fs;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::CommandError;
use super::shell;
use crate::domain::clock::{Clock, Moment, SystemClock};
use crate::output::Output;
use crate::runner::{Shutdown, ShutdownHandle, ShutdownMode, shutdown};

/// The step of a run, which decides the message that a signal gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for the run lock.
    Lock,
    /// It imports; nothing has been sent.
    Import,
    /// Requests may be in flight.
    Send,
    /// It has ended; the hook runs.
    Finish,
}

impl Phase {
    fn message(self) -> &'static str {
        match self {
            Self::Lock => "stopping: no longer waiting for the lock; nothing was sent",
            Self::Import => "stopping: rolling back the import (signal again to stop now)",
            Self::Send => "stopping: waiting for in-flight requests (signal again to stop now)",
            Self::Finish => {
                "stopping: terminating the --on-finish command (signal again to kill it)"
            }
        }
    }
}

/// The shutdown of a run and of its hook, both driven by signals.
pub(super) struct RunSignals {
    phase: Arc<Mutex<Phase>>,
    stopper: ShutdownHandle,
    run: Shutdown,
    hook: Shutdown,
}

impl RunSignals {
    /// Sets the step of the run.
    pub(super) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// The shutdown of the run.
    pub(super) fn run(&self) -> Shutdown {
        self.run.clone()
    }

    /// The shutdown of the hook. Signals from before [`Phase::Finish`] do not count.
    pub(super) fn hook(&self) -> Shutdown {
        self.hook.clone()
    }

    /// Requests a graceful shutdown at `deadline`, if there is one.
    pub(super) fn time_ends<C: Clock>(&self, clock: &C, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        let (clock, stopper) = (clock.clone(), self.stopper.clone());
        tokio::spawn(async move {
            clock.sleep_until(deadline).await;
            stopper.deadline_reached();
        });
    }
}

/// Handles signals from now on; before, a signal ends the process. The first one prints `message`.
pub(super) fn listen(out: &Output, message: &'static str) -> Result<Shutdown, CommandError> {
    let mut signals = ShutdownSignals::new()?;
    let ((stopper, shutdown), out) = (shutdown(), out.clone());
    tokio::spawn(async move {
        signals.next().await;
        print(&out, message).await;
        stopper.signal();
        loop {
            signals.next().await;
            stopper.signal();
        }
    });
    Ok(shutdown)
}

/// Like [`listen`], for a command that imports and sends nothing.
pub(super) fn listen_for_import(out: &Output) -> Result<Shutdown, CommandError> {
    listen(out, Phase::Import.message())
}

/// Like [`listen`], for a run.
pub(super) fn listen_for_run(out: &Output) -> Result<RunSignals, CommandError> {
    let mut signals = ShutdownSignals::new()?;
    let ((stopper, run), (hook_stopper, hook)) = (shutdown(), shutdown());
    let phase = Arc::new(Mutex::new(Phase::Lock));
    let run_signals = RunSignals { phase: phase.clone(), stopper: stopper.clone(), run, hook };
    let (run, hook, out) = (run_signals.run(), run_signals.hook(), out.clone());
    tokio::spawn(async move {
        loop {
            signals.next().await;
            let phase = *phase.lock().unwrap_or_else(PoisonError::into_inner);
            let (stopper, shutdown) = match phase {
                Phase::Finish => (&hook_stopper, &hook),
                Phase::Lock | Phase::Import | Phase::Send => (&stopper, &run),
            };
            if !shutdown.is_requested() {
                print(&out, phase.message()).await;
            }
            stopper.signal();
        }
    });
    Ok(run_signals)
}

/// Prints `message`, and gives up on a stopped terminal (Ctrl-S), which must not delay the shutdown.
async fn print(out: &Output, message: &'static str) {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let (out, clock) = (out.clone(), SystemClock::new());
    let printed = tokio::task::spawn_blocking(move || out.info(message));
    tokio::select! {
        _ = printed => {}
        () = clock.sleep_until(clock.now() + TIMEOUT) => {}
    }
}

/// SIGXFSZ has this number on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Makes a write beyond `ulimit -f` fail like one to a full disk. By default its signal ends the
/// process without a message.
pub(super) fn ignore_file_size_limit() -> Result<(), CommandError> {
    let handler = signal(SignalKind::from_raw(SIGXFSZ));
    handler.map(drop).map_err(CommandError::io("cannot handle signals"))
}

/// The signals that request a shutdown.
struct ShutdownSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if SIGHUP is ignored, as by `nohup`: the process outlives its terminal.
    hangup: Option<Signal>,
}

impl ShutdownSignals {
    fn new() -> Result<Self, CommandError> {
        let failed = || CommandError::io("cannot handle signals");
        let listen = |kind| signal(kind).map_err(failed());
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: is_hangup_handled().then(|| listen(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether this process was started with SIGHUP not ignored. Without /proc a shell is
/// asked, which inherits the ignored signals. If neither gives an answer, SIGHUP is left alone.
fn is_hangup_handled() -> bool {
    let ignored = fs::read_to_string("/proc/self/status").ok();
    let ignored = ignored.and_then(|status| ignores_hangup(&status));
    ignored.or_else(shell::ignores_hangup) == Some(false)
}

/// Reads `/proc/*/status`; the lowest bit of the mask is signal 1.
fn ignores_hangup(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(|mask| mask & 1 == 1)
}

/// Returns when a run does not end after a shutdown, because a write to the queue is blocked.
pub(super) async fn stuck(shutdown: Shutdown, clock: SystemClock, grace: Duration) {
    const ENDS_WITHIN: Duration = Duration::from_secs(1);
    let (mut graceful, mut immediate) = (shutdown.clone(), shutdown);
    let after_immediate = async {
        immediate.requested(ShutdownMode::Immediate).await;
        clock.sleep_until(clock.now() + ENDS_WITHIN).await;
    };
    let after_graceful = async {
        graceful.requested(ShutdownMode::Graceful).await;
        clock.sleep_until(clock.now() + grace + 10 * ENDS_WITHIN).await;
    };
    tokio::select! {
        () = after_immediate => {}
        () = after_graceful => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_hangup_is_read_from_proc() {
        assert_eq!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"), Some(true));
        assert_eq!(
            ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"),
            Some(false)
        );
        assert_eq!(ignores_hangup("Name:\tx\n"), None);
    }
}
