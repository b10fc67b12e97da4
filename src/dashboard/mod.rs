//! The page, live: the queue's figures for whoever looks, while a run goes on or without one.
//!
//! Reads the queue through the store alone, by connections of its own, so it works beside a run
//! of another process; a run of this process wakes it by its events. One reading serves all who
//! look, at most one a second and never more than a fifth of the time; nobody looks: nothing is
//! read. Whoever is slow gets the newest state when ready for it, and nothing is kept for them
//! meanwhile. It never writes, and a run never waits for it but for a moment at the end, when
//! whoever is still connected is cut off.

mod access;
mod hub;
mod listener;
mod places;
mod routes;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use crate::domain::clock::Clock;
use crate::report::About;
use crate::runner::Event;
use crate::store::Store;
use access::Access;
use hub::Hub;
use listener::Limits;

/// How long a stop waits for a last look at the queue while somebody looks.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// How long it then waits for what is on its way to them.
const GRACE: Duration = Duration::from_secs(1);

/// What whoever looks is told at the end; none: it goes on.
type Stop = Option<&'static str>;

/// The same where nobody said anything.
const STOPPED: &str = "the dashboard was stopped";

/// An address that is taken, so that nobody else gets it; nothing is answered yet.
#[derive(Debug)]
pub struct Bound {
    tcp: TcpListener,
    addr: SocketAddr,
}

impl Bound {
    /// Takes the address; port 0 takes a free one.
    ///
    /// # Errors
    /// When it is in use, or is none of this machine.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        let addr = tcp.local_addr()?;
        Ok(Self { tcp, addr })
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Serves the page of `store` on tasks of its own; whoever looks has to know `token`, if
    /// there is one. `events` of a run in this process tell when to look at the queue.
    pub fn serve(
        self,
        store: &Store,
        about: About,
        token: Option<SecretString>,
        clock: impl Clock,
        events: Option<broadcast::Receiver<Event>>,
    ) -> Dashboard {
        let (stop, stopped) = watch::channel(None);
        let (ended, serving) = watch::channel(());
        let hub = Arc::new(Hub::new(store.apart(), about, clock.clone()));
        let router = routes::router(Arc::clone(&hub), Access::new(token, self.addr.port()));
        tokio::spawn(async move {
            let looking = hub.keep_fresh(events, asked_to_stop(stopped.clone()).map(drop));
            let last = last_look(&hub, &clock, stopped.clone());
            let over = after_grace(&hub, &clock);
            let limits = Limits::default();
            let serving =
                listener::serve(self.tcp, router, limits, clock.clone(), stopped.clone(), over);
            tokio::join!(looking, last, serving);
            // Nobody reads any more, so this takes no time.
            tokio::select! {
                () = hub.close() => {}
                () = clock.sleep_until(clock.now() + GRACE) => {}
            }
            drop(ended);
        });
        Dashboard { stop, serving }
    }
}

/// A dashboard that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Dashboard {
    /// Set, or dropped with the dashboard: it ends.
    stop: watch::Sender<Stop>,
    /// Closed once it has ended.
    serving: watch::Receiver<()>,
}

impl Dashboard {
    /// Tells whoever looks how it stands now and, in `words`, that it is over, and ends.
    pub async fn stop(mut self, words: &'static str) {
        self.stop.send_replace(Some(words));
        // The server sends nothing; it only lets go of its end.
        while self.serving.changed().await.is_ok() {}
    }
}

/// Returns when told to stop, and when nobody is left who could tell, with the words for it.
async fn asked_to_stop(mut stopped: watch::Receiver<Stop>) -> &'static str {
    let stop = stopped.wait_for(Option::is_some).await;
    stop.ok().and_then(|words| *words).unwrap_or(STOPPED)
}

/// Shows the end to whoever looks. A queue that takes long to read is shown as it was.
async fn last_look<C: Clock>(hub: &Hub<C>, clock: &C, stopped: watch::Receiver<Stop>) {
    let words = asked_to_stop(stopped).await;
    tokio::select! {
        () = hub.look_once_more() => {}
        () = clock.sleep_until(clock.now() + LAST_LOOK) => {}
    }
    hub.end(words);
}

/// Returns when whoever has not taken what was sent is not waited for any more.
async fn after_grace<C: Clock>(hub: &Hub<C>, clock: &C) {
    hub.ended().await;
    clock.sleep_until(clock.now() + GRACE).await;
}
