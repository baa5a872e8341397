//! The reaper's end of the socket to `run`.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::reaper::wire::{MessageBuffer, ReaperEvent, ReaperOrder};

pub(super) struct RunConnection {
    /// None once `run` has ended.
    socket: Option<UnixStream>,
    inbox: MessageBuffer,
    stdin: Option<OwnedFd>,
    /// Events that `run` has not read yet, because it was stopped.
    queued: VecDeque<ReaperEvent>,
    /// The rest of a message that was written partly.
    partly_written: Vec<u8>,
}

impl RunConnection {
    pub(super) fn on_stdin() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some(socket),
            inbox: MessageBuffer::default(),
            stdin: None,
            queued: VecDeque::new(),
            partly_written: Vec::new(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn poll(&self) -> Option<PollFd<'_>> {
        let wanted = if self.has_unwritten() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        self.socket.as_ref().map(|socket| PollFd::new(socket, wanted))
    }

    /// Reads orders, and the stdin for the command. Returns false once, when `run` has ended.
    pub(super) fn read(&mut self) -> bool {
        let mut bytes = [0; 1 << 13];
        while let Some(socket) = &self.socket {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut files = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut files, RecvFlags::empty());
            for message in files.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    for file in files {
                        let _ = fcntl_setfd(&file, FdFlags::CLOEXEC);
                        self.stdin = Some(file);
                    }
                }
            }
            match received.map(|received| received.bytes) {
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => {
                    self.socket = None;
                    self.queued.clear();
                    self.partly_written.clear();
                    return false;
                }
                Ok(count) => self.inbox.extend(&bytes[..count]),
            }
        }
        true
    }

    /// The next complete order. A malformed order counts as [`ReaperOrder::Kill`].
    pub(super) fn next(&mut self) -> Option<ReaperOrder> {
        self.inbox.next().map(|fields| ReaperOrder::decode(fields).unwrap_or(ReaperOrder::Kill))
    }

    pub(super) fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }

    /// Queues an event, and writes as much as the socket takes. The event is dropped if `run` has ended.
    pub(super) fn send(&mut self, event: ReaperEvent) {
        if matches!(event, ReaperEvent::Stopped(_)) {
            // Of the stops not written yet, only the last counts.
            self.queued.retain(|unwritten| !matches!(unwritten, ReaperEvent::Stopped(_)));
        }
        if self.is_open() {
            self.queued.push_back(event);
            self.write();
        }
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.queued.is_empty() || !self.partly_written.is_empty()
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self) {
        while let Some(socket) = &mut self.socket {
            if self.partly_written.is_empty() {
                match self.queued.pop_front() {
                    Some(event) => self.partly_written = event.encode(),
                    None => break,
                }
            }
            match socket.write(&self.partly_written) {
                Ok(count) => drop(self.partly_written.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // `read` detects the end of `run`.
                Err(_) => {
                    self.queued.clear();
                    self.partly_written.clear();
                }
            }
        }
    }
}
