//! Signals that interrupt nothing: for commands whose children are to have none blocked.

use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use super::{ignored, is_among};
use crate::run::terminal::Terminal;

/// The signals that others may send us, and that ask for something.
pub(crate) struct Handled {
    listeners: Vec<(Signal, Listener)>,
}

impl Handled {
    /// Listens for them, but for those that the process which started us wants ignored.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];
        let ignored = ignored();
        let wanted = kinds.into_iter().filter(|kind| !is_among(kind.as_raw(), ignored));
        let listeners = wanted.map(|kind| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?)));
        Ok(Self { listeners: listeners.collect::<io::Result<_>>()? })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (kind, listener) in &mut self.listeners {
                if listener.poll_recv(cx).is_ready() {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Whether a process in our group has had this signal already: what is typed goes to all of the terminal's group.
pub(crate) fn is_typed(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::QUIT)
        && Terminal::open().is_some_and(|terminal| terminal.is_ours())
}
