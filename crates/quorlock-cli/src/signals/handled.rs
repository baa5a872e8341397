//! Listens for signals without blocking them: for commands whose children must start with none blocked.

use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use super::{contains_signal, ignored};
use crate::run::terminal::Terminal;

/// A listener for the signals that end or notify a process.
pub(crate) struct Handled {
    listeners: Vec<(Signal, Listener)>,
}

impl Handled {
    /// Starts listening, except for signals that the parent process ignores.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];
        let ignored = ignored();
        let wanted = kinds.into_iter().filter(|kind| !contains_signal(kind.as_raw(), ignored));
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

/// Whether other processes of this group received the signal too: a typed
/// one goes to the terminal's whole group.
pub(crate) fn is_typed(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::QUIT)
        && Terminal::open().is_some_and(|terminal| terminal.is_in_foreground())
}
