//! `deskbatch dashboard`: the page, live, until a signal; and the same for a run.

use secrecy::SecretString;

use super::{CommandError, Exit, page, signals};
use crate::cli::DashboardArgs;
use crate::config::{DashboardAt, Settings};
use crate::dashboard::{Bound, Dashboard};
use crate::domain::clock::SystemClock;
use crate::output::Output;
use crate::runner::{Events, ShutdownMode};
use crate::store::Store;

/// The most refused questions that the live page lists: it sends them again and again.
const REFUSED_MAX: u32 = 1_000;

/// Runs the command.
pub(super) async fn dashboard(
    settings: &Settings,
    args: &DashboardArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let at = settings.dashboard_alone(args.addr.as_deref())?;
    let store = Store::open_existing(&settings.database).await?;
    let flag = if args.addr.is_some() { "--addr" } else { "--dashboard" };
    let taken = Taken { bound: bind(&at, flag).await?, token: at.token };
    // Before anybody is told where it is, and may end it.
    let mut shutdown = signals::listen(out, "stopping")?;
    let dashboard = taken.serve(settings, &store, None, out);
    out.say("Ctrl-C ends it");
    shutdown.requested(ShutdownMode::Graceful).await;
    dashboard.stop("the dashboard was stopped").await;
    store.close().await;
    Ok(Exit::Done)
}

/// An address that is taken for the dashboard.
pub(super) struct Taken {
    bound: Bound,
    token: Option<SecretString>,
}

/// Takes the address for a run, if it shall have a dashboard.
pub(super) async fn take_for_run(settings: &Settings) -> Result<Option<Taken>, CommandError> {
    match settings.dashboard()? {
        Some(at) => Ok(Some(Taken { bound: bind(&at, "--dashboard").await?, token: at.token })),
        None => Ok(None),
    }
}

async fn bind(at: &DashboardAt, flag: &str) -> Result<Bound, CommandError> {
    Bound::bind(at.addr).await.map_err(|e| {
        CommandError::Wrong(format!(
            "the dashboard cannot listen at {}: {e}: name another port with {flag}, or port 0 for a free one; nothing \
             was sent",
            at.addr
        ))
    })
}

impl Taken {
    /// Begins to serve and says where; the events are those of a run in this process.
    pub(super) fn serve(
        self,
        settings: &Settings,
        store: &Store,
        events: Option<&Events>,
        out: &Output,
    ) -> Dashboard {
        let url = self.bound.url();
        let hint = if self.token.is_some() {
            ", opened once as /?token= with your token behind it"
        } else {
            ""
        };
        let text = format!("the dashboard is at {url}{hint}");
        match events {
            Some(_) => out.say(&text),
            // It is all that the command is for.
            None => out.must_say(&text),
        }
        let about = page::about(settings, None, REFUSED_MAX);
        let heard = events.map(Events::listen);
        self.bound.serve(store, about, self.token, SystemClock::new(), heard)
    }
}
