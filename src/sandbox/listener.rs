//! Connections that can be cut: nothing written after the cut reaches the client.
//!
//! An HTTP handler can only respond; it cannot close its connection. So each stream has a flag that handlers
//! reach through the connection info. Once the flag is set, writes fail and reads end, so the HTTP server
//! drops the connection with its buffers. Bytes sent before the cut still reach the client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The handle that cuts a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Line {
    /// Cuts the connection, even an idle one.
    pub(super) fn cut(&self) {
        self.0.cut();
    }
}

impl Flag {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }
}

/// Every open connection, so that the server can cut them when it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<Weak<Flag>>>>);

impl Lines {
    fn add(&self, line: &Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&line.0));
    }

    pub(super) fn cut(&self) {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter().filter_map(Weak::upgrade) {
            line.cut();
        }
    }
}

/// Accepts connections that can be cut.
#[derive(Debug)]
pub(super) struct CutListener {
    pub(super) tcp: TcpListener,
    pub(super) lines: Lines,
}

impl Listener for CutListener {
    type Io = CutStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CutStream, SocketAddr) {
        // The `Listener` of axum for a `TcpListener` waits and retries when accepting fails.
        let (tcp, addr) = Listener::accept(&mut self.tcp).await;
        // Without it Nagle's algorithm can delay a response by 40 ms. A failure to set it is harmless.
        let _ = tcp.set_nodelay(true);
        let line = Line::default();
        self.lines.add(&line);
        (CutStream { tcp, line }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, CutListener>> for Line {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        stream.io().line.clone()
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(super) struct CutStream {
    tcp: TcpStream,
    line: Line,
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered before the flag is read, so that no cut is missed in between.
        self.line.0.reader.register(context.waker());
        if self.line.0.is_cut() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.0.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
