//! Accepts connections: a bounded number, with timeouts, and none after the dashboard has ended.
//!
//! Each connection is a task owned by the server. A new connection is always accepted and may close
//! another one (`connections.rs`). A connection without a complete request in time, or whose client
//! reads nothing of a response, is closed. This bounds what a client without the token can use up.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connections::{Authorized, Connections};
use super::{Stop, stop_requested};
use crate::domain::clock::Clock;

/// The limits on clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most open connections; a browser opens up to six.
    pub(super) connections_max: usize,
    /// The time limit for the head of a request, from the connection or the last response.
    pub(super) head_timeout: Duration,
    /// The time limit for a client that reads nothing of a response; an event stream sends twice in that
    /// time.
    pub(super) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (head_timeout, write_timeout) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { connections_max: 128, head_timeout, write_timeout }
    }
}

/// Serves until stopped, then lets responses in progress finish until `cut_off`. No connection is open
/// when it returns.
pub(super) async fn serve<C: Clock>(
    mut tcp: TcpListener,
    router: Router,
    limits: Limits,
    clock: C,
    stopped: watch::Receiver<Stop>,
    cut_off: impl Future<Output = ()>,
) {
    let mut tasks = JoinSet::new();
    let accepting = async {
        let mut connections = Connections::new(limits.connections_max);
        loop {
            // axum's Listener retries after a failed accept.
            let (tcp, from) = Listener::accept(&mut tcp).await;
            let _ = tcp.set_nodelay(true);
            while tasks.try_join_next().is_some() {}
            connections.make_room();
            let stream = TimeoutStream {
                tcp,
                timeout: limits.write_timeout,
                clock: clock.clone(),
                timer: None,
            };
            let authorized = Authorized::default();
            let router = router.clone().layer(Extension(authorized.clone()));
            let task = serve_connection(stream, router, limits.head_timeout, stopped.clone());
            connections.add(from.ip(), authorized, tasks.spawn(task));
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop_requested(stopped.clone()) => {}
    }
    drop(tcp);
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    let was_cut = tokio::select! {
        () = all_ended => false,
        () = cut_off => true,
    };
    if was_cut {
        tasks.shutdown().await;
    }
}

/// Serves one connection until it ends; after a stop, until the response in progress is complete.
async fn serve_connection<C: Clock>(
    stream: TimeoutStream<C>,
    router: Router,
    head_timeout: Duration,
    stopped: watch::Receiver<Stop>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // An error of one connection is of no consequence.
    tokio::select! {
        _ = &mut connection => return,
        _ = stop_requested(stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// A connection that fails when no write succeeds for some time.
struct TimeoutStream<C> {
    tcp: TcpStream,
    timeout: Duration,
    clock: C,
    /// Runs while a write is pending.
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Nothing is pinned in place: the timer has a box of its own.
impl<C> Unpin for TimeoutStream<C> {}

impl<C: Clock> TimeoutStream<C> {
    fn is_in_time(&mut self, context: &mut Context<'_>) -> bool {
        let (clock, timeout) = (&self.clock, self.timeout);
        let timer = self.timer.get_or_insert_with(|| {
            let (clock, until) = (clock.clone(), clock.now() + timeout);
            Box::pin(async move { clock.sleep_until(until).await })
        });
        timer.as_mut().poll(context).is_pending()
    }
}

impl<C: Clock> AsyncRead for TimeoutStream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl<C: Clock> AsyncWrite for TimeoutStream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.tcp).poll_write(context, bytes) {
            Poll::Pending if self.is_in_time(context) => Poll::Pending,
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(written) => {
                self.timer = None;
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::domain::clock::ManualClock;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    async fn sent(addr: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Waits for the beginning of a response.
    async fn read_response_head(stream: &mut TcpStream) {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }

    /// Serves a page of `page_bytes` until `test` is done.
    async fn with<T: Future<Output = ()>>(
        limits: Limits,
        clock: ManualClock,
        page_bytes: usize,
        test: impl FnOnce(SocketAddr) -> T,
    ) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let router = Router::new().route("/", get(async move || vec![b'x'; page_bytes]));
        let (_stop, stopped) = watch::channel(Stop::default());
        tokio::select! {
            () = serve(tcp, router, limits, clock, stopped, std::future::pending()) => {}
            () = test(addr) => {}
        }
    }

    #[tokio::test]
    async fn idle_connections_time_out() {
        let limits = Limits {
            connections_max: 3,
            head_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        with(limits, ManualClock::new(0), 1, async |addr| {
            let mut idle = sent(addr, REQUEST).await;
            read_response_head(&mut idle).await;
            let _silent = sent(addr, "").await;
            let _half = sent(addr, "GET / HTTP/1.1\r\n").await;
            for _ in 0..3 {
                read_response_head(&mut sent(addr, REQUEST).await).await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn half_sent_requests_lock_out_no_client() {
        // Too long to pass in this test: a new connection must close one of these.
        let limits = Limits { head_timeout: Duration::from_hours(1), ..Limits::default() };
        with(limits, ManualClock::new(0), 1, async |addr| {
            let mut half_sent = Vec::new();
            for _ in 0..300 {
                half_sent.push(sent(addr, "GET / HTTP/1.1\r\n").await);
            }
            read_response_head(&mut sent(addr, REQUEST).await).await;
        })
        .await;
    }

    #[tokio::test]
    async fn client_that_reads_nothing_times_out() {
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let clock = ManualClock::new(0);
        // More than the socket buffers hold.
        with(limits, clock.clone(), 64 << 20, async |addr| {
            let _deaf = sent(addr, REQUEST).await;
            let mut next = sent(addr, REQUEST).await;
            let time_goes_on = async {
                loop {
                    clock.advance_to_next_sleeper().await;
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = time_goes_on => {}
                () = read_response_head(&mut next) => {}
            }
        })
        .await;
    }
}
