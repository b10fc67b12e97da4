//! The dashboard: the HTML report, live, during a run or without one.
//!
//! Reads the queue through connections of its own, so it works beside a run of another process; events
//! of a run in this process trigger a read. One read serves all clients: at most one per second, at
//! most a fifth of the time, and none without clients. A slow client skips to the newest state; nothing
//! is queued for it. Never writes. A run waits for the dashboard only at its end, for a bounded time,
//! after which remaining connections are closed.

mod auth;
mod cache;
mod connections;
mod listener;
mod routes;
mod sse;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use crate::domain::clock::Clock;
use crate::queue::Queue;
use crate::report::PageInfo;
use crate::runner::Event;
use auth::Auth;
use cache::PageCache;
use listener::Limits;

/// The time limit for the last read of the queue.
const LAST_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit for delivering the last state, and again for closing.
const GRACE: Duration = Duration::from_secs(1);

/// The final message for clients; `None`: not stopped.
type Stop = Option<&'static str>;

/// The final message if the dashboard is dropped.
const STOPPED: &str = "the dashboard was stopped";

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct DashboardListener {
    tcp: TcpListener,
    addr: SocketAddr,
}

impl DashboardListener {
    /// Binds the address; port 0 selects a free one.
    ///
    /// # Errors
    /// When the address is in use, or not one of this host.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        let addr = tcp.local_addr()?;
        Ok(Self { tcp, addr })
    }

    /// The URL of the page.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Serves the page of `queue` on tasks of its own. Requests must present `token`, if there is one.
    /// `events` of a run in this process trigger reads.
    pub fn serve(
        self,
        queue: &Queue,
        info: PageInfo,
        token: Option<SecretString>,
        clock: impl Clock,
        events: Option<broadcast::Receiver<Event>>,
    ) -> Dashboard {
        let (stop, stopped) = watch::channel(None);
        let (ended, serving) = watch::channel(());
        let cache = Arc::new(PageCache::new(queue.separate_connections(), info, clock.clone()));
        let router = routes::router(Arc::clone(&cache), Auth::new(token, self.addr.port()));
        tokio::spawn(async move {
            let reading = cache.keep_fresh(events, stop_requested(stopped.clone()).map(drop));
            let last_read = send_last_state(&cache, &clock, stopped.clone());
            let cut_off = after_grace(&cache, &clock);
            let limits = Limits::default();
            let serving =
                listener::serve(self.tcp, router, limits, clock.clone(), stopped.clone(), cut_off);
            tokio::join!(reading, last_read, serving);
            // No read is running any more, so this should be immediate.
            tokio::select! {
                () = cache.close() => {}
                () = clock.sleep_until(clock.now() + GRACE) => {}
            }
            drop(ended);
        });
        Dashboard { stop, serving }
    }
}

/// A dashboard, served until stopped or dropped.
#[derive(Debug)]
pub struct Dashboard {
    /// Setting or dropping this ends it.
    stop: watch::Sender<Stop>,
    /// Closed when it has ended.
    serving: watch::Receiver<()>,
}

impl Dashboard {
    /// Sends the last state and the final `message` to all clients, and ends.
    pub async fn stop(mut self, message: &'static str) {
        self.stop.send_replace(Some(message));
        // The server never sends a value; it drops its end.
        while self.serving.changed().await.is_ok() {}
    }
}

/// Returns the final message when the dashboard is stopped or dropped.
async fn stop_requested(mut stopped: watch::Receiver<Stop>) -> &'static str {
    let stop = stopped.wait_for(Option::is_some).await;
    stop.ok().and_then(|message| *message).unwrap_or(STOPPED)
}

/// Reads once more and sends the final message. If the read is too slow, clients keep the state before
/// it.
async fn send_last_state<C: Clock>(
    cache: &PageCache<C>,
    clock: &C,
    stopped: watch::Receiver<Stop>,
) {
    let message = stop_requested(stopped).await;
    tokio::select! {
        () = cache.refresh_once_more() => {}
        () = clock.sleep_until(clock.now() + LAST_READ_TIMEOUT) => {}
    }
    cache.end(message);
}

/// Returns [`GRACE`] after the final message was sent.
async fn after_grace<C: Clock>(cache: &PageCache<C>, clock: &C) {
    cache.ended().await;
    clock.sleep_until(clock.now() + GRACE).await;
}
