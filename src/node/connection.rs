//! A connection to a node: writes requests and reads replies, both in order.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::credentials::Credentials;
use super::handshake::login_command;
use super::notification::Notification;
use super::reply::{self, ProtocolError, Reply};
use super::stream::Stream;

/// A connection that is ready for requests.
pub(crate) struct Connection {
    stream: Stream,
    /// The secret that is redacted in error replies, because a server may echo it.
    secret: Option<Box<str>>,
    eval_only: bool,
    supports_wait_queue: bool,
    /// Requests whose reply has not been returned.
    unanswered: usize,
    /// How many of these come before a renewed login, if one was sent.
    before_login: Option<usize>,
    /// The reply to a renewed login, not yet handled.
    login_reply: Option<Result<(), Arc<str>>>,
    /// Notifications that were received and not yet handled.
    notifications: VecDeque<Notification>,
    write_buffer: Vec<u8>,
    write_position: usize,
    needs_flush: bool,
    read_buffer: Box<[u8]>,
    /// The part of the read buffer that is not parsed yet.
    read_start: usize,
    read_end: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream, secret: Option<&str>) -> Self {
        Self {
            stream,
            secret: secret.map(Into::into),
            eval_only: false,
            supports_wait_queue: false,
            unanswered: 0,
            before_login: None,
            login_reply: None,
            notifications: VecDeque::new(),
            write_buffer: Vec::with_capacity(4096),
            write_position: 0,
            needs_flush: false,
            read_buffer: vec![0; 4096].into_boxed_slice(),
            read_start: 0,
            read_end: 0,
        }
    }

    /// Whether scripts must be sent as source, because this user may not load them.
    pub(crate) fn eval_only(&self) -> bool {
        self.eval_only
    }

    pub(super) fn set_eval_only(&mut self) {
        self.eval_only = true;
    }

    /// Whether this client can be notified, and can notify other processes, through this node.
    pub(crate) fn supports_wait_queue(&self) -> bool {
        self.supports_wait_queue
    }

    pub(super) fn set_supports_wait_queue(&mut self) {
        self.supports_wait_queue = true;
    }

    /// The next notification, received between the replies.
    pub(crate) fn next_notification(&mut self) -> Option<Notification> {
        self.notifications.pop_front()
    }

    /// Appends an encoded request, or its first part, to the write buffer.
    pub(crate) fn queue(&mut self, encoded: &[u8]) {
        self.write_buffer.extend_from_slice(encoded);
        self.unanswered += 1;
    }

    /// Appends the rest of the last request to the write buffer.
    pub(crate) fn queue_rest(&mut self, encoded: &[u8]) {
        self.write_buffer.extend_from_slice(encoded);
    }

    /// Records that all requests of the handshake were answered. (A subscription is answered by a push, which
    /// is no reply.)
    pub(super) fn end_handshake(&mut self) {
        self.unanswered = 0;
    }

    /// Whether the login of this connection has the secret of these credentials.
    pub(crate) fn has_secret_of(&self, credentials: &Credentials) -> bool {
        self.secret.as_deref() == credentials.secret()
    }

    /// Logs in again, behind the requests that were queued. Returns false if there is no login to send.
    pub(crate) fn queue_login(&mut self, credentials: &Credentials) -> bool {
        let Some(command) = login_command(credentials) else { return false };
        self.secret = credentials.secret().map(Into::into);
        self.before_login = Some(self.unanswered);
        self.write_buffer.extend_from_slice(&command.get_packed_command());
        true
    }

    /// The reply to [`queue_login`](Self::queue_login), received between the other replies.
    pub(crate) fn take_login_reply(&mut self) -> Option<Result<(), Arc<str>>> {
        self.login_reply.take()
    }

    /// Whether the write buffer is so large that it should be written before more is encoded.
    pub(crate) fn has_large_write_buffer(&self) -> bool {
        self.write_buffer.len() - self.write_position >= LARGE_BUFFER
    }

    /// Writes the buffered bytes: as many as the socket accepts now, the rest when it accepts more.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.write_position < self.write_buffer.len() {
            let stream = Pin::new(&mut self.stream);
            match stream.poll_write(cx, &self.write_buffer[self.write_position..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.write_position += count;
                    self.needs_flush = true;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.write_buffer.clear();
        self.write_position = 0;
        // Free the memory of a burst, such as thousands of renewals at once.
        self.write_buffer.shrink_to(RETAINED_CAPACITY);
        if self.needs_flush {
            // Only TLS buffers.
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. Call [`has_more`](Self::has_more) next: only that registers the waker for the next bytes.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.make_room();
        let mut buffer = ReadBuf::new(&mut self.read_buffer[self.read_end..]);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            let message = "the server closed the connection";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
        }
        self.read_end += count;
        Poll::Ready(Ok(()))
    }

    /// Whether there may be more to read. If not, this task is woken when there is.
    pub(crate) fn has_more(&self, cx: &mut Context<'_>) -> bool {
        self.stream.poll_readable(cx).is_ready()
    }

    /// The next complete reply to a request; `None` until more bytes are read.
    pub(crate) fn next_reply(&mut self) -> Result<Option<Reply>, ProtocolError> {
        loop {
            let Some(reply) = self.parse_reply()? else { return Ok(None) };
            match &mut self.before_login {
                Some(0) => {
                    self.before_login = None;
                    self.login_reply = Some(match reply {
                        Reply::Error(error) => Err(error.text()),
                        _ => Ok(()),
                    });
                    continue;
                }
                Some(count) => *count -= 1,
                None => {}
            }
            self.unanswered = self.unanswered.saturating_sub(1);
            return Ok(Some(reply));
        }
    }

    fn parse_reply(&mut self) -> Result<Option<Reply>, ProtocolError> {
        loop {
            let bytes = &self.read_buffer[self.read_start..self.read_end];
            if bytes.is_empty() {
                return Ok(None);
            }
            if let Some((reply, length)) = reply::parse_fast(bytes) {
                self.read_start += length;
                return Ok(Some(reply));
            }
            if bytes.first() == Some(&b'|') {
                // An attribute is framed together with the reply after it, which would get lost. No request
                // of this library has attributes in its reply.
                return Err(ProtocolError);
            }
            let is_push = bytes.first() == Some(&b'>');
            let Some((reply, length)) = reply::parse_redacting(bytes, self.secret.as_deref())? else {
                return Ok(None);
            };
            self.read_start += length;
            if !is_push {
                return Ok(Some(reply));
            }
            self.notifications.extend(Notification::of(&reply));
        }
    }

    /// Whether the unparsed bytes are the start of an HTTP response.
    pub(super) fn has_read_http(&self) -> bool {
        self.read_buffer[self.read_start..self.read_end].starts_with(b"HTTP/")
    }

    /// Closes gracefully: written bytes are still delivered. Dropping the connection resets it instead.
    pub(crate) async fn close(self) {
        self.stream.close().await;
    }

    fn make_room(&mut self) {
        if self.read_start == self.read_end {
            (self.read_start, self.read_end) = (0, 0);
            if self.read_buffer.len() > RETAINED_CAPACITY {
                self.read_buffer = vec![0; RETAINED_CAPACITY].into_boxed_slice();
            }
        } else if self.read_end == self.read_buffer.len() {
            self.read_buffer.copy_within(self.read_start..self.read_end, 0);
            (self.read_start, self.read_end) = (0, self.read_end - self.read_start);
            if self.read_end == self.read_buffer.len() {
                let mut larger = vec![0; self.read_buffer.len() * 2].into_boxed_slice();
                larger[..self.read_end].copy_from_slice(&self.read_buffer);
                self.read_buffer = larger;
            }
        }
    }
}

/// In bytes: the requests of more than a hundred locks.
const LARGE_BUFFER: usize = 1 << 14;

/// How many bytes each buffer keeps when it is empty: the requests of some hundred locks.
const RETAINED_CAPACITY: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// Requests, a login, and more requests are sent in one write.
    async fn replies_to(before: usize, behind: usize, bytes: &[u8]) -> (Vec<Reply>, Result<(), Arc<str>>) {
        let (stream, mut server) = UnixStream::pair().expect("sockets");
        let mut connection = Connection::new(Stream::Unix(stream), Some("old"));
        (0..before).for_each(|_| connection.queue(b"x"));
        assert!(connection.queue_login(&Credentials::new("hunter2").username("ann")));
        (0..behind).for_each(|_| connection.queue(b"x"));
        let mut replies = Vec::new();
        let mut login = None;
        for byte in bytes {
            server.write_all(&[*byte]).await.expect("written");
            poll_fn(|cx| connection.poll_read(cx)).await.expect("read");
            replies.extend(connection.next_reply().expect("well-formed"));
            login = login.or(connection.take_login_reply());
        }
        (replies, login.expect("a reply to the login"))
    }

    #[tokio::test]
    async fn the_reply_to_a_login_is_taken_out_of_the_other_replies() {
        let all = ["+OK\r\n", ":1\r\n", ":2\r\n", ":3\r\n"];
        for before in 0..all.len() {
            let mut sent = all[1..].to_vec();
            sent.insert(before, all[0]);
            let (replies, login) = replies_to(before, 3 - before, sent.concat().as_bytes()).await;
            assert_eq!(replies, [1, 2, 3].map(Reply::Int));
            assert_eq!(login, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_rejected_login_does_not_show_its_password() {
        let (replies, login) = replies_to(1, 0, b":1\r\n-WRONGPASS ann has not hunter2\r\n").await;
        assert_eq!((replies, login), (vec![Reply::Int(1)], Err("WRONGPASS ann has not …".into())));
    }

    #[test]
    fn a_login_without_user_and_password_is_not_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        let (stream, _server) = UnixStream::pair().expect("sockets");
        let mut connection = Connection::new(Stream::Unix(stream), None);
        assert!(!connection.queue_login(&Credentials::default()) && connection.write_buffer.is_empty());
    }
}
