//! Ctrl-C and SIGTERM: the first lets requests in flight finish, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use crate::output::Output;
use crate::runner::{Shutdown, shutdown};

/// Listens from now on. Until this is called, a signal ends the process the usual way.
pub(super) fn listen(out: &Output) -> Result<Shutdown, CommandError> {
    let failed = || CommandError::io("signals cannot be listened for");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let (stopper, shutdown) = shutdown();
    let out = out.clone();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        out.say("stopping: waiting for the requests that are out; once more stops at once");
        stopper.press();
        loop {
            either(&mut interrupt, &mut terminate).await;
            stopper.press();
        }
    });
    Ok(shutdown)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
