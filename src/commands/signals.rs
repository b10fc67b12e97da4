//! Ctrl-C and SIGTERM: the first lets requests in flight finish, or undoes an import; the second
//! ends at once.
//! And the signal of a limit on files, which is an error like others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use crate::clock::{Clock, Moment};
use crate::output::Output;
use crate::runner::{Shutdown, Stopper, shutdown};

/// Whether requests may be out, which a signal then lets come back. Before that, an import is
/// all that there is to be ended.
#[derive(Clone, Default)]
pub(super) struct Sends(Arc<AtomicBool>);

impl Sends {
    /// From now on they may.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Listens from now on. Until this is called, a signal ends the process the usual way. Others
/// may ask for an end too. The first signal is answered with `word`.
pub(super) fn listen(
    out: &Output,
    word: impl Fn() -> &'static str + Send + 'static,
) -> Result<(Stopper, Shutdown), CommandError> {
    let failed = || CommandError::io("signals cannot be listened for");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let (stopper, shutdown) = shutdown();
    let (others, out) = (stopper.clone(), out.clone());
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        out.say(word());
        stopper.press();
        loop {
            either(&mut interrupt, &mut terminate).await;
            stopper.press();
        }
    });
    Ok((others, shutdown))
}

/// What an import says to the first signal.
const IMPORT_ENDS: &str = "stopping: undoing the import; once more stops at once";

/// What a run says to it.
const RUN_ENDS: &str = "stopping: waiting for the requests that are out; once more stops at once";

/// The same for a command that imports and sends nothing.
pub(super) fn listen_for_import(out: &Output) -> Result<Shutdown, CommandError> {
    Ok(listen(out, || IMPORT_ENDS)?.1)
}

/// The same for a run, and at `deadline`, if there is one, the time is over: as good as a first signal.
pub(super) fn listen_for_run<C: Clock>(
    out: &Output,
    clock: &C,
    deadline: Option<Moment>,
) -> Result<(Shutdown, Sends), CommandError> {
    let sends = Sends::default();
    let begun = sends.clone();
    let word = move || if begun.0.load(Ordering::Relaxed) { RUN_ENDS } else { IMPORT_ENDS };
    let (stopper, shutdown) = listen(out, word)?;
    if let Some(deadline) = deadline {
        let clock = clock.clone();
        tokio::spawn(async move {
            clock.sleep_until(deadline).await;
            stopper.time_is_over();
        });
    }
    Ok((shutdown, sends))
}

/// SIGXFSZ, which has this number on Linux and on macOS.
const SIZE_LIMIT: i32 = 25;

/// From now on a write beyond a limit on the size of files (`ulimit -f`) fails like one on a
/// full disk. Unheard, its signal would end the process without a word.
pub(super) fn outlive_size_limits() -> Result<(), CommandError> {
    let heard = signal(SignalKind::from_raw(SIZE_LIMIT));
    heard.map(drop).map_err(CommandError::io("signals cannot be listened for"))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
