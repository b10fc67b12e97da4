//! `deskbatch dashboard`: serves the live page until a signal; and the dashboard of a run.

use secrecy::SecretString;

use super::error::{CommandError, Exit};
use super::report::html::page_info;
use super::signals;
use crate::cli::DashboardArgs;
use crate::config::{DashboardSettings, Settings};
use crate::dashboard::{Dashboard, DashboardListener};
use crate::domain::clock::SystemClock;
use crate::output::Output;
use crate::queue::Queue;
use crate::runner::{Events, ShutdownMode};

/// The most failed questions that the live page lists, which resends them with every change.
const FAILED_MAX: u32 = 1_000;

/// Runs the command.
pub(super) async fn dashboard(
    settings: &Settings,
    args: &DashboardArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let at = settings.standalone_dashboard(args.addr.as_deref())?;
    let queue = Queue::open_existing(&settings.database).await?;
    let flag = if args.addr.is_some() { "--addr" } else { "--dashboard" };
    let bound = BoundDashboard { listener: bind(&at, flag).await?, token: at.token };
    // Before the address is printed: a reader of it may send a signal.
    let mut shutdown = signals::listen(out, "stopping")?;
    let dashboard = bound.serve(settings, &queue, None, out);
    out.info("press Ctrl-C to stop it");
    shutdown.requested(ShutdownMode::Graceful).await;
    dashboard.stop("the dashboard was stopped").await;
    queue.close().await;
    Ok(Exit::Done)
}

/// A dashboard that has its address and does not serve yet.
pub(super) struct BoundDashboard {
    listener: DashboardListener,
    token: Option<SecretString>,
}

/// Binds the address of a run's dashboard, if one is set. Early, so that a used port fails before
/// anything is imported.
pub(super) async fn bind_for_run(
    settings: &Settings,
) -> Result<Option<BoundDashboard>, CommandError> {
    match settings.dashboard()? {
        Some(at) => {
            let listener = bind(&at, "--dashboard").await?;
            Ok(Some(BoundDashboard { listener, token: at.token }))
        }
        None => Ok(None),
    }
}

async fn bind(at: &DashboardSettings, flag: &str) -> Result<DashboardListener, CommandError> {
    DashboardListener::bind(at.addr).await.map_err(|e| {
        CommandError::Usage(format!(
            "the dashboard cannot listen on {}: {e}. Choose another port with {flag}, or port 0 for a free one. Nothing \
             was sent.",
            at.addr
        ))
    })
}

impl BoundDashboard {
    /// Begins to serve and prints the address. `events` are those of a run in this process.
    pub(super) fn serve(
        self,
        settings: &Settings,
        queue: &Queue,
        events: Option<&Events>,
        out: &Output,
    ) -> Dashboard {
        let url = self.listener.url();
        let hint = if self.token.is_some() {
            " (open it once as /?token=TOKEN, with your token)"
        } else {
            ""
        };
        let text = format!("the dashboard is at {url}{hint}");
        match events {
            Some(_) => out.info(&text),
            // The only output of the command, so --quiet does not suppress it.
            None => out.warn(&text),
        }
        let info = page_info(settings, None, FAILED_MAX);
        let events = events.map(Events::listen);
        self.listener.serve(queue, info, self.token, SystemClock::new(), events)
    }
}
