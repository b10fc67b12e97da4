//! What an import needs to stop in time: where to report to, and the shutdown it obeys.

use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::commands::error::CommandError;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;
use crate::queue::{CancellationToken, QueueError};
use crate::runner::{Shutdown, ShutdownMode};

/// An import that was asked to stop does so within this time, unless another process's write blocks
/// it.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// The output and the shutdown of a command that may import.
#[derive(Clone)]
pub(in crate::commands) struct ImportContext {
    pub(super) out: Output,
    shutdown: Shutdown,
    stop: CancellationToken,
}

impl ImportContext {
    /// From now on `shutdown` stops the import.
    pub(in crate::commands) fn begin(out: &Output, shutdown: Shutdown) -> Self {
        let ctx = Self { out: out.clone(), shutdown, stop: CancellationToken::default() };
        let (mut shutdown, stop) = (ctx.shutdown.clone(), ctx.stop.clone());
        tokio::spawn(async move {
            shutdown.requested(ShutdownMode::Graceful).await;
            stop.ask();
        });
        ctx
    }

    /// Interrupts the engine inside a statement.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns on shutdown.
    pub(super) async fn stopped(&self) {
        self.shutdown.clone().requested(ShutdownMode::Graceful).await;
    }

    /// Returns on immediate shutdown, or when the import has not stopped in time.
    pub(super) async fn stuck(&self) {
        let clock = SystemClock::new();
        let mut immediate = self.shutdown.clone();
        tokio::select! {
            () = immediate.requested(ShutdownMode::Immediate) => {}
            () = async {
                self.stopped().await;
                clock.sleep_until(clock.now() + STOPS_WITHIN).await;
            } => {}
        }
    }

    /// Asks a question; only an explicit yes counts as yes.
    pub(in crate::commands) async fn ask(&self, question: String) -> Result<bool, CommandError> {
        let (sender, receiver) = oneshot::channel();
        let out = self.out.clone();
        // The thread may wait for an answer without end; it ends with the process.
        thread::spawn(move || sender.send(out.ask(&question)));
        tokio::select! {
            biased;
            is_yes = receiver => Ok(is_yes.unwrap_or(false)),
            () = self.stopped() => Err(QueueError::Stopped.into()),
        }
    }
}
