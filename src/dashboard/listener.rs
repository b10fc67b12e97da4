//! Connections: a bounded number at once, none for longer than it is used, and none at all once
//! the dashboard has ended.
//!
//! Each is a task that the server holds, so that nothing of the queue is held by one that
//! stays. A new connection is always accepted: where there are too many, one that was never
//! admitted, of the address that has the most, gives way to it (`places.rs`). One that has no
//! whole request in time, or takes nothing of an answer, ends: this is all that a stranger
//! without the token can cost.

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

use super::places::{Admitted, Places};
use super::{Stop, asked_to_stop};
use crate::domain::clock::Clock;

/// What strangers are given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most connections at once; a browser has up to six.
    pub(super) connections_max: usize,
    /// How long the head of a request may take, from the connection or the last answer on.
    pub(super) head_within: Duration,
    /// How long nothing of an answer may be taken; a client that listens is sent something
    /// twice in that time.
    pub(super) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (head_within, stall) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { connections_max: 128, head_within, stall }
    }
}

/// Answers until it is asked to stop, and lets what is on its way get there until `over`. No
/// connection is left when it returns.
pub(super) async fn serve<C: Clock>(
    mut tcp: TcpListener,
    router: Router,
    limits: Limits,
    clock: C,
    stopped: watch::Receiver<Stop>,
    over: impl Future<Output = ()>,
) {
    let mut going = JoinSet::new();
    let accepting = async {
        let mut places = Places::new(limits.connections_max);
        loop {
            // axum's own way with a TcpListener waits and tries again when accepting fails.
            let (tcp, from) = Listener::accept(&mut tcp).await;
            let _ = tcp.set_nodelay(true);
            while going.try_join_next().is_some() {}
            places.make_room();
            let line = Line { tcp, stall: limits.stall, clock: clock.clone(), stalled: None };
            let admitted = Admitted::default();
            let router = router.clone().layer(Extension(admitted.clone()));
            let task = answer(line, router, limits.head_within, stopped.clone());
            places.give(from.ip(), admitted, going.spawn(task));
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = asked_to_stop(stopped.clone()) => {}
    }
    drop(tcp);
    let all_ended = async { while going.join_next().await.is_some() {} };
    let was_cut = tokio::select! {
        () = all_ended => false,
        () = over => true,
    };
    if was_cut {
        going.shutdown().await;
    }
}

/// Answers on one connection until it ends, or until what was asked for is answered once it is
/// asked to stop.
async fn answer<C: Clock>(
    line: Line<C>,
    router: Router,
    head_within: Duration,
    stopped: watch::Receiver<Stop>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .serve_connection(TokioIo::new(line), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a connection ends is its client's business.
    tokio::select! {
        _ = &mut connection => return,
        _ = asked_to_stop(stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// A connection that fails when nothing can be written to it for too long.
struct Line<C> {
    tcp: TcpStream,
    stall: Duration,
    clock: C,
    /// Ends when it has been too long; none while writing goes on.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What has to stay where it is has a box.
impl<C> Unpin for Line<C> {}

impl<C: Clock> Line<C> {
    fn is_patient(&mut self, context: &mut Context<'_>) -> bool {
        let (clock, stall) = (&self.clock, self.stall);
        let stalled = self.stalled.get_or_insert_with(|| {
            let (clock, until) = (clock.clone(), clock.now() + stall);
            Box::pin(async move { clock.sleep_until(until).await })
        });
        stalled.as_mut().poll(context).is_pending()
    }
}

impl<C: Clock> AsyncRead for Line<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl<C: Clock> AsyncWrite for Line<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.tcp).poll_write(context, bytes) {
            Poll::Pending if self.is_patient(context) => Poll::Pending,
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(written) => {
                self.stalled = None;
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

    /// Waits for the beginning of an answer.
    async fn is_answered(stream: &mut TcpStream) {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }

    /// Serves a page of so many bytes until `test` is done with its address.
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
    async fn who_has_no_request_gives_the_place_to_the_next_one() {
        let limits = Limits {
            connections_max: 3,
            head_within: Duration::from_millis(100),
            ..Limits::default()
        };
        with(limits, ManualClock::new(0), 1, async |addr| {
            let mut idle = sent(addr, REQUEST).await;
            is_answered(&mut idle).await;
            let _silent = sent(addr, "").await;
            let _half = sent(addr, "GET / HTTP/1.1\r\n").await;
            for _ in 0..3 {
                is_answered(&mut sent(addr, REQUEST).await).await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn half_sent_requests_keep_no_one_out() {
        // Had one to run into the time for its head, this test would not end.
        let limits = Limits { head_within: Duration::from_hours(1), ..Limits::default() };
        with(limits, ManualClock::new(0), 1, async |addr| {
            let mut half_sent = Vec::new();
            for _ in 0..300 {
                half_sent.push(sent(addr, "GET / HTTP/1.1\r\n").await);
            }
            is_answered(&mut sent(addr, REQUEST).await).await;
        })
        .await;
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_gives_the_place_to_the_next_one() {
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let clock = ManualClock::new(0);
        // More than the buffers between the two take.
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
                () = is_answered(&mut next) => {}
            }
        })
        .await;
    }
}
