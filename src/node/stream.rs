//! A byte stream to a node: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An open connection to a node.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls-rustls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Configures a new TCP connection for short requests, and for a reset when it is dropped.
pub(super) fn configure_socket(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    // Unsent bytes must be discarded with the connection: without this, the kernel delivered a SET 31 s after
    // its process had ended.
    socket.set_linger(Some(Duration::ZERO))
}

impl Stream {
    /// Closes gracefully, so that all written bytes arrive. Dropping the stream resets the connection
    /// instead.
    pub(super) async fn close(mut self) {
        let tcp = match &self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(feature = "tls-rustls")]
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Unix(_) => None,
        };
        if let Some(stream) = tcp {
            let _ = SockRef::from(stream).set_linger(None);
        }
        let _ = self.shutdown().await;
    }

    /// Whether there may be bytes to read; if not, this task is woken when there are. Half the cost of a read
    /// that finds none.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // The read reports any error.
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            // It may have decrypted more than it has returned, and only a read shows that.
            #[cfg(feature = "tls-rustls")]
            Self::Tls(_) => Poll::Ready(()),
        }
    }

    /// Writes at once, without tokio's readiness check: the socket nearly always accepts the bytes, so that
    /// is cheaper. `None` if the caller must use `poll_write`.
    fn try_write(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            #[cfg(feature = "tls-rustls")]
            Self::Tls(_) => return None,
        };
        Some(written).filter(|written| !is_blocked(written))
    }
}

fn is_blocked(written: &io::Result<usize>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

macro_rules! on_stream {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $body,
            Stream::Unix($stream) => $body,
            #[cfg(feature = "tls-rustls")]
            Stream::Tls($stream) => $body,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.try_write(bytes) {
            return Poll::Ready(written);
        }
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(any(target_os = "linux", target_os = "android"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);
