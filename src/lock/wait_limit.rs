//! Until when a caller waits for a lock.

use std::time::Duration;

use tokio::sync::Notify;

use crate::host::clock::now;
use crate::host::timer::{Elapsed, sleep, timeout};
use quorlock_proto::time::DualTimestamp;

/// The time until which a caller keeps trying.
#[derive(Clone, Copy)]
pub(super) enum WaitLimit {
    Never,
    At(DualTimestamp),
}

impl WaitLimit {
    /// The limit of a wait that begins now; `None` waits forever.
    pub(super) fn of(wait: Option<Duration>) -> Self {
        wait.map_or(Self::Never, |wait| Self::At(now().plus(wait)))
    }

    /// The rest of the wait; `None` if it has no deadline.
    pub(super) fn left(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(deadline) => Some(deadline.since(now())),
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::At(deadline) if now().is_due(deadline))
    }

    /// This span, limited by the deadline of the wait.
    pub(super) fn cut(self, span: Duration) -> Duration {
        self.left().map_or(span, |left| left.min(span))
    }

    /// Waits for a wakeup, for at most this span and not past the deadline of the wait.
    pub(super) async fn wait_for_wakeup(self, wakeup: &Notify, span: Duration) -> Result<(), Elapsed> {
        timeout(self.cut(span), wakeup.notified()).await
    }

    /// Sleeps, but not past the deadline of the wait, so that the last attempt happens exactly there.
    pub(super) async fn pause(self, span: Duration) {
        if !span.is_zero() {
            sleep(self.cut(span)).await;
        }
    }
}
