//! Ctrl-C, SIGTERM and, on every Unix, a terminal that goes away (SIGHUP): the first lets requests in flight
//! finish, or undoes an import; the second ends at once.
//! And the signal of a limit on files, which is an error like others.

use std::fs;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use super::finish::shell_ignores_hangup;
use crate::domain::clock::{Clock, Moment, SystemClock};
use crate::output::Output;
use crate::runner::{Shutdown, ShutdownHandle, ShutdownMode, shutdown};

/// What a run is at, by which a signal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for its turn at the queue.
    Turn,
    /// It imports; nothing has been sent.
    Import,
    /// Requests may be out.
    Send,
    /// It is over, and its end is told.
    Finish,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Turn => "stopping: no longer waiting for the queue; nothing was sent",
            Self::Import => "stopping: undoing the import; once more stops at once",
            Self::Send => {
                "stopping: waiting for the requests that are out; once more stops at once"
            }
            Self::Finish => "stopping: ending the command of --on-finish; once more kills it",
        }
    }
}

/// The signals that a run hears, and where it stands.
pub(super) struct RunSignals {
    phase: Arc<Mutex<Phase>>,
    stopper: ShutdownHandle,
    run: Shutdown,
    finish: Shutdown,
}

impl RunSignals {
    /// From now on a signal means `phase`.
    pub(super) fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// What ends the run.
    pub(super) fn run(&self) -> Shutdown {
        self.run.clone()
    }

    /// What ends the telling of its end. Signals that came before do not count here.
    pub(super) fn finish(&self) -> Shutdown {
        self.finish.clone()
    }

    /// At `deadline`, if there is one, the run's time is over: as good as a first signal.
    pub(super) fn time_ends<C: Clock>(&self, clock: &C, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        let (clock, stopper) = (clock.clone(), self.stopper.clone());
        tokio::spawn(async move {
            clock.sleep_until(deadline).await;
            stopper.deadline_reached();
        });
    }
}

/// Listens from now on. Until this is called, a signal ends the process the usual way. The
/// first signal is answered with `word`.
pub(super) fn listen(out: &Output, word: &'static str) -> Result<Shutdown, CommandError> {
    let mut heard = Heard::begin()?;
    let ((stopper, shutdown), out) = (shutdown(), out.clone());
    tokio::spawn(async move {
        heard.next().await;
        say(&out, word).await;
        stopper.signal();
        loop {
            heard.next().await;
            stopper.signal();
        }
    });
    Ok(shutdown)
}

/// The same for a command that imports and sends nothing.
pub(super) fn listen_for_import(out: &Output) -> Result<Shutdown, CommandError> {
    listen(out, Phase::Import.word())
}

/// The same for a run, from its very beginning.
pub(super) fn listen_for_run(out: &Output) -> Result<RunSignals, CommandError> {
    let mut heard = Heard::begin()?;
    let ((stopper, run), (finisher, finish)) = (shutdown(), shutdown());
    let phase = Arc::new(Mutex::new(Phase::Turn));
    let signals = RunSignals { phase: phase.clone(), stopper: stopper.clone(), run, finish };
    let (run, finish, out) = (signals.run(), signals.finish(), out.clone());
    tokio::spawn(async move {
        loop {
            heard.next().await;
            let phase = *phase.lock().unwrap_or_else(PoisonError::into_inner);
            let (asks, asked) = match phase {
                Phase::Finish => (&finisher, &finish),
                Phase::Turn | Phase::Import | Phase::Send => (&stopper, &run),
            };
            if !asked.is_requested() {
                say(&out, phase.word()).await;
            }
            asks.signal();
        }
    });
    Ok(signals)
}

/// Says `word`, or gives up on a terminal that is held: it must not hold up what was asked for.
async fn say(out: &Output, word: &'static str) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let (out, clock) = (out.clone(), SystemClock::new());
    let said = tokio::task::spawn_blocking(move || out.say(word));
    tokio::select! {
        _ = said => {}
        () = clock.sleep_until(clock.now() + PATIENCE) => {}
    }
}

/// SIGXFSZ, which has this number on Linux and on macOS.
const SIZE_LIMIT: i32 = 25;

/// From now on a write beyond a limit on the size of files (`ulimit -f`) fails like one on a
/// full disk. Unheard, its signal would end the process without a word.
pub(super) fn outlive_size_limits() -> Result<(), CommandError> {
    let heard = signal(SignalKind::from_raw(SIZE_LIMIT));
    heard.map(drop).map_err(CommandError::io("signals cannot be listened for"))
}

/// The signals that ask for an end.
struct Heard {
    interrupt: Signal,
    terminate: Signal,
    /// `None`: whoever began this process wants it to outlive its terminal, as `nohup` does.
    hangup: Option<Signal>,
}

impl Heard {
    fn begin() -> Result<Self, CommandError> {
        let failed = || CommandError::io("signals cannot be listened for");
        let listen = |kind| signal(kind).map_err(failed());
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: hangup_counts().then(|| listen(SignalKind::hangup())).transpose()?,
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

/// Whether SIGHUP is not ignored. Where the system has no file that says so, a shell does, which
/// inherits what this process ignores: sent to itself, the signal ends it or does not. What says
/// neither leaves SIGHUP as it was found.
fn hangup_counts() -> bool {
    let ignored = fs::read_to_string("/proc/self/status").ok();
    let ignored = ignored.and_then(|status| ignores_hangup(&status));
    ignored.or_else(shell_ignores_hangup) == Some(false)
}

/// What the `status` of a process says: the lowest bit is the signal with number 1.
fn ignores_hangup(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(|mask| mask & 1 == 1)
}

/// Returns when a run was told to end and does not: it waits for its queue.
pub(super) async fn stuck(shutdown: Shutdown, clock: SystemClock, grace: Duration) {
    const ENDS_BY_ITSELF: Duration = Duration::from_secs(1);
    let (mut finish, mut now) = (shutdown.clone(), shutdown);
    let at_once = async {
        now.requested(ShutdownMode::Immediate).await;
        clock.sleep_until(clock.now() + ENDS_BY_ITSELF).await;
    };
    let in_time = async {
        finish.requested(ShutdownMode::Graceful).await;
        clock.sleep_until(clock.now() + grace + 10 * ENDS_BY_ITSELF).await;
    };
    tokio::select! {
        () = at_once => {}
        () = in_time => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_whether_it_ignores_a_hangup() {
        assert_eq!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"), Some(true));
        assert_eq!(
            ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"),
            Some(false)
        );
        assert_eq!(ignores_hangup("Name:\tx\n"), None);
    }
}
