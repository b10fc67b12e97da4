//! The server: sockets, waiting and locking around the pure decision.
//!
//! One lock holds state, script and ledger, and the time is read inside it, so that decisions have one order
//! and time never goes backwards for them. It is never held across an await. All waiting uses the [`Clock`],
//! so that a test controls it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::call::Request;
use super::decide::Now;
use super::ledger::Ledger;
use super::listener::{CutListener, Line, Lines};
use super::page;
use super::reply::Reply;
use super::service::Service;
use super::settings::SandboxSettings;
use super::state::QuestionState;
use crate::domain::clock::{Clock, Moment, SystemClock};

/// The most bytes of a body that are kept.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The most bytes of a body that are read. A body that is too large is read to its end and discarded, because
/// most clients read a response only after they have sent everything.
const BODY_BYTES_DRAINED_MAX: usize = 64 * 1024 * 1024;

/// How long a stop waits for unfinished responses before it cuts them.
const GRACE: Duration = Duration::from_secs(1);

/// A sandbox that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// The server ends when this is set, or dropped with the sandbox.
    stop: watch::Sender<bool>,
    /// Closed once the server has ended.
    serving: watch::Receiver<()>,
}

impl Sandbox {
    /// Binds the address and serves in its own task.
    ///
    /// # Errors
    /// When the settings are invalid, or the address is not on loopback or is in use.
    pub async fn start(settings: SandboxSettings) -> io::Result<Self> {
        Self::start_on(settings, SystemClock::new()).await
    }

    /// Starts a sandbox with the given clock.
    ///
    /// # Errors
    /// As for [`Sandbox::start`].
    pub async fn start_on(settings: SandboxSettings, clock: impl Clock) -> io::Result<Self> {
        settings.check()?;
        let tcp = TcpListener::bind(settings.addr).await?;
        let addr = tcp.local_addr()?;
        let lines = Lines::default();
        let shared = Arc::new(Shared::new(settings));
        let (stop, stopped) = watch::channel(false);
        let (ended, serving) = watch::channel(());

        let service = Arc::new(Handlers { clock: clock.clone(), shared: Arc::clone(&shared) });
        let router = Router::new().fallback(handle).with_state(service);
        let listener = CutListener { tcp, lines: lines.clone() };
        let server = axum::serve(listener, router.into_make_service_with_connect_info::<Line>())
            .with_graceful_shutdown(asked_to_stop(stopped.clone()));
        tokio::spawn(async move {
            serve(server.into_future(), stopped, &lines, &clock).await;
            drop(ended);
        });
        Ok(Self { addr, shared, stop, serving })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL for a client: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The ledger up to now.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger(usize::MAX)
    }

    /// The state of a question; `None` if no request has set it.
    pub fn question(&self, id: &str) -> Option<QuestionState> {
        self.shared.core().question(id)
    }

    /// Returns once at least `count` requests have been decided. Tests use it to act in the middle of a run.
    pub async fn seen(&self, count: u64) {
        let mut seen = self.shared.seen.subscribe();
        // The sender lives as long as `self`, so only the count can end this wait.
        let _ = seen.wait_for(|total| *total >= count).await;
    }

    /// Stops: accepts no new connection, waits a second for unfinished responses, then cuts all connections.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.stopped().await;
    }

    /// Returns once the server has ended, for any reason.
    pub async fn stopped(&self) {
        let mut serving = self.serving.clone();
        // The server sends no value; it only drops its sender.
        while serving.changed().await.is_ok() {}
    }
}

/// Serves until the stop: gracefully first, then cuts the remaining connections.
async fn serve(
    server: impl Future<Output = io::Result<()>>,
    stopped: watch::Receiver<bool>,
    lines: &Lines,
    clock: &impl Clock,
) {
    let mut server = pin!(server);
    tokio::select! {
        _ = &mut server => return,
        () = asked_to_stop(stopped) => {}
    }
    tokio::select! {
        _ = &mut server => return,
        () = clock.sleep_until(clock.now() + GRACE) => lines.cut(),
    }
    // A cut connection ends at once, and its handler with it. The limit keeps a stop from waiting forever.
    tokio::select! {
        _ = &mut server => {}
        () = clock.sleep_until(clock.now() + GRACE) => {}
    }
}

/// Returns at a stop, or when the sandbox was dropped.
async fn asked_to_stop(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The state that the server and its owner share.
#[derive(Debug)]
struct Shared {
    core: Mutex<Service>,
    /// The number of decided requests.
    seen: watch::Sender<u64>,
}

impl Shared {
    fn new(settings: SandboxSettings) -> Self {
        Self { core: Mutex::new(Service::new(settings)), seen: watch::Sender::new(0) }
    }

    fn core(&self) -> MutexGuard<'_, Service> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self, requests_max: usize) -> Ledger {
        self.core().ledger(requests_max)
    }
}

/// The state of the handlers.
struct Handlers<C> {
    clock: C,
    shared: Arc<Shared>,
}

/// The received body of a request.
enum Received {
    Whole(Vec<u8>),
    TooLarge,
    /// The client disconnected in the middle.
    Gone,
}

/// Handles one HTTP request.
async fn handle<C: Clock>(
    State(service): State<Arc<Handlers<C>>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: HttpRequest,
) -> Response {
    let arrived = service.clock.now();
    let (head, body) = request.into_parts();
    if let Some(page) = service.page(&head) {
        return page;
    }
    let body = match receive(body).await {
        Received::Whole(body) => Some(body),
        Received::TooLarge => None,
        Received::Gone => return cut(&line),
    };
    // A request that has left a client arrives even if the client disconnects: its own task continues when
    // the connection, and this handler with it, is dropped.
    let judged = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.judge(&head, body.as_deref(), arrived).await }
    });
    let Ok((reply, leaves)) = judged.await else { return cut(&line) };
    service.wait_until(leaves).await;
    match reply.http.map(StatusCode::from_u16) {
        Some(Ok(status)) => response(status, reply.content_type, reply.body),
        _ => cut(&line),
    }
}

impl<C: Clock> Handlers<C> {
    /// The reply, and the moment to send it.
    async fn judge(&self, head: &Parts, body: Option<&[u8]>, arrived: Moment) -> (Reply, Moment) {
        let (request_delay, latency) = self.shared.core().draw_delays();
        if !request_delay.is_zero() {
            self.wait_until(arrived + request_delay).await;
        }
        let request = Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            body,
        };
        let mut core = self.shared.core();
        let now = Now { moment: self.clock.now(), wall_ms: self.clock.wall_ms() };
        let reply = core.judge(&request, arrived, now);
        self.shared.seen.send_replace(core.total());
        let leaves = now.moment + latency + reply.hold;
        (reply, leaves)
    }

    async fn wait_until(&self, moment: Moment) {
        if self.clock.now() < moment {
            self.clock.sleep_until(moment).await;
        }
    }

    /// The page for a browser; `None` for an API call. Such a request is not counted or recorded.
    fn page(&self, head: &Parts) -> Option<Response> {
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        if !is_read || head.uri.path().starts_with("/v4/") {
            return None;
        }
        let ledger = self.shared.ledger(page::REQUESTS_SHOWN);
        let (status, kind, body) = match (&head.method, head.uri.path()) {
            (&Method::GET, "/") => {
                (StatusCode::OK, "text/html; charset=utf-8", page::html(&ledger))
            }
            (&Method::GET, "/ledger.json") => {
                (StatusCode::OK, "application/json", page::json(&ledger))
            }
            _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        };
        let mut response = response(status, Some(kind), body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}

async fn receive(body: Body) -> Received {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut length) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return Received::Gone };
        length += chunk.len();
        if length > BODY_BYTES_DRAINED_MAX {
            return Received::TooLarge;
        }
        if length <= BODY_BYTES_MAX {
            kept.extend_from_slice(&chunk);
        }
    }
    if length <= BODY_BYTES_MAX { Received::Whole(kept) } else { Received::TooLarge }
}

/// Cuts the connection. The returned response is never sent.
fn cut(line: &Line) -> Response {
    line.cut();
    Response::new(Body::empty())
}

fn response(status: StatusCode, kind: Option<&'static str>, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

#[cfg(test)]
mod tests;
