//! Connections, of which there are only so many at once; the next one waits until one ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most connections at once; a browser has up to six.
const CONNECTIONS_MAX: usize = 128;

/// Accepts connections while there are few enough.
#[derive(Debug)]
pub(super) struct CountingListener {
    tcp: TcpListener,
    free: Arc<Semaphore>,
}

impl CountingListener {
    pub(super) fn new(tcp: TcpListener) -> Self {
        Self { tcp, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for CountingListener {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        // It is never closed, so a permit always comes.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        // axum's own way with a TcpListener waits and tries again when accepting fails.
        let (tcp, addr) = Listener::accept(&mut self.tcp).await;
        let _ = tcp.set_nodelay(true);
        (Counted { tcp, _permit: permit }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection that gives back its place when it ends.
#[derive(Debug)]
pub(super) struct Counted {
    tcp: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
