//! Composes clock, transport, queue and runner, and drains the queue through them.

use tokio::runtime::Handle;

use super::context::{LockedQueue, RunContext};
use crate::commands::error::CommandError;
use crate::commands::service::Service;
use crate::commands::{eta, signals};
use crate::config::Account;
use crate::desk::{HttpSettings, HttpTransport};
use crate::output::follow;
use crate::runner::{Events, RunReport, Runner, RunnerSettings};

/// Sends every job that `limits` allow, shows the progress, and returns the run's report.
pub(super) async fn drain(
    ctx: &RunContext<'_>,
    locked: &LockedQueue,
    account: Account,
    limits: RunnerSettings,
    events: Events,
    service: &Service,
) -> Result<RunReport, CommandError> {
    let RunContext { settings, clock, out, .. } = *ctx;
    let (queue, shutdown) = (&locked.queue, ctx.signals.run());
    let Account { identifier, signer, endpoint, .. } = account;
    let Some(endpoint) = endpoint else {
        return Err(CommandError::Usage("no endpoint is set".to_owned()));
    };
    let timeouts = settings.timeouts();
    let transport = HttpTransport::new(&HttpSettings {
        endpoint,
        identifier,
        connect_timeout: timeouts.connect,
        total_timeout: timeouts.total,
    })?;
    let chunk = eta::inputs_of(settings, queue, limits.app).await?.chunk;
    let progress = follow(out.clone(), clock.clone(), events.listen(), chunk, settings.rate());
    // On a thread of its own: a terminal stopped by Ctrl-S blocks every write to it.
    let runtime = Handle::current();
    let display =
        (!out.is_quiet()).then(|| tokio::task::spawn_blocking(move || runtime.block_on(progress)));
    let stuck = signals::stuck(shutdown.clone(), clock.clone(), limits.grace);
    let runner = Runner::new(clock.clone(), queue.clone(), transport, signer, limits, events);
    let drained = async {
        service.note(queue).await?;
        let report = runner.run(&locked.lease, shutdown).await;
        // The display ends with the run's last event, or with the channel.
        if let Some(display) = display {
            let _ = display.await;
        }
        Ok(report?)
    };
    tokio::select! {
        report = drained => report,
        // Abandoning a run anywhere is safe: the next run recovers the requests in flight.
        () = stuck => Err(CommandError::Abandoned),
    }
}
