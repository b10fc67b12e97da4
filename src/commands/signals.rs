//! Ctrl-C and SIGTERM: the first lets requests in flight finish, the second ends at once.
//! And the signal of a limit on files, which is an error like others.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use crate::clock::{Clock, Moment};
use crate::output::Output;
use crate::runner::{Shutdown, Stopper, shutdown};

/// Listens from now on. Until this is called, a signal ends the process the usual way. Others
/// may ask for an end too. The first signal is answered with `word`.
pub(super) fn listen(
    out: &Output,
    word: &'static str,
) -> Result<(Stopper, Shutdown), CommandError> {
    let failed = || CommandError::io("signals cannot be listened for");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let (stopper, shutdown) = shutdown();
    let (others, out) = (stopper.clone(), out.clone());
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        out.say(word);
        stopper.press();
        loop {
            either(&mut interrupt, &mut terminate).await;
            stopper.press();
        }
    });
    Ok((others, shutdown))
}

/// What a run says to the first signal.
const RUN_ENDS: &str = "stopping: waiting for the requests that are out; once more stops at once";

/// The same for a run, and at `deadline`, if there is one, the time is over: as good as a first signal.
pub(super) fn listen_until<C: Clock>(
    out: &Output,
    clock: &C,
    deadline: Option<Moment>,
) -> Result<Shutdown, CommandError> {
    let (stopper, shutdown) = listen(out, RUN_ENDS)?;
    if let Some(deadline) = deadline {
        let clock = clock.clone();
        tokio::spawn(async move {
            clock.sleep_until(deadline).await;
            stopper.time_is_over();
        });
    }
    Ok(shutdown)
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
