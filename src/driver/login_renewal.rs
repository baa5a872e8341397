//! When a living connection logs in again: before its credentials expire, and when its permissions have changed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::node::Credentials;
use quorlock_proto::time::{BootTime, DualTimestamp};

/// The next login of a living connection whose credentials have a provider. A failed one leaves the connection as it
/// is, and is tried again.
pub(super) struct LoginRenewal {
    state: State,
    /// When the connection last logged in, or failed to.
    last_tried_at: BootTime,
    /// When its credentials expire, if they do.
    valid_until: Option<BootTime>,
    /// Whether the server has rejected the last credentials of the provider.
    was_rejected: bool,
}

enum State {
    /// The provider is asked at this time, or never.
    Waiting(Option<BootTime>),
    Asking(AbortOnDropHandle<Provided>),
    /// The login is sent, with credentials that are valid for this long.
    Sent(Option<Duration>),
}

/// The credentials, or why the provider has none.
pub(super) type Provided = Result<Credentials, Arc<str>>;

impl LoginRenewal {
    /// After a login with credentials that are valid for this long.
    pub(super) fn new(valid_for: Option<Duration>, now: BootTime, random: u64) -> Self {
        Self {
            state: State::Waiting(valid_for.map(|span| now.plus(renew_after(span, random)))),
            last_tried_at: now,
            valid_until: valid_for.map(|span| now.plus(span)),
            was_rejected: false,
        }
    }

    /// When the provider is to be asked.
    pub(super) fn due(&self) -> Option<BootTime> {
        match self.state {
            State::Waiting(due) => due,
            State::Asking(_) | State::Sent(_) => None,
        }
    }

    /// Whether the credentials that the provider returned last were rejected.
    pub(super) fn was_rejected(&self) -> bool {
        self.was_rejected
    }

    /// The provider is asked by this task.
    pub(super) fn begin(&mut self, task: AbortOnDropHandle<Provided>) {
        self.state = State::Asking(task);
    }

    /// What the provider has returned. Then call [`on_sent`](Self::on_sent) or [`on_failure`](Self::on_failure).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Provided> {
        let State::Asking(task) = &mut self.state else { return None };
        match Pin::new(task).poll(cx) {
            Poll::Ready(Ok(provided)) => Some(provided),
            Poll::Ready(Err(error)) => Some(Err(ended_task(&error).into())),
            Poll::Pending => None,
        }
    }

    /// The login is sent. Then call [`on_login`](Self::on_login) or [`on_failure`](Self::on_failure).
    pub(super) fn on_sent(&mut self, valid_for: Option<Duration>) {
        self.state = State::Sent(valid_for);
    }

    /// The server has accepted the login.
    pub(super) fn on_login(&mut self, now: BootTime, random: u64) {
        if let State::Sent(valid_for) = self.state {
            *self = Self::new(valid_for, now, random);
        }
    }

    /// The provider has failed, or the server has rejected its credentials. The connection goes on with the login
    /// that it has.
    pub(super) fn on_failure(&mut self, now: BootTime, random: u64) {
        self.was_rejected = matches!(self.state, State::Sent(_));
        self.last_tried_at = now;
        let left = self.valid_until.map_or(Duration::ZERO, |until| until.since(now));
        self.state = State::Waiting(Some(now.plus(retry_after(left, random))));
    }

    /// The server has denied a command: the user's permissions have changed, and the provider may know another user.
    /// It is asked soon, but not if it was asked just now.
    pub(super) fn on_permission_denied(&mut self, now: DualTimestamp) {
        let State::Waiting(due) = &mut self.state else { return };
        let earliest = self.last_tried_at.plus(MIN_LOGIN_AGE);
        let soon = if earliest.has_passed(now) { now.boot() } else { earliest };
        *due = Some(due.map_or(soon, |due| due.min(soon)));
    }
}

/// The text for a task that ended without a result.
pub(super) fn ended_task(error: &tokio::task::JoinError) -> &'static str {
    if error.is_panic() {
        "credentials: the provider panicked"
    } else {
        "the dial was ended with its runtime"
    }
}

/// How long after a login the next one begins: after 80 % of the validity, at least three minutes before its end, but
/// not in its first half. A random number spreads the nodes and the clients.
fn renew_after(valid_for: Duration, random: u64) -> Duration {
    let lead = (valid_for / 5).max(MIN_LEAD.min(valid_for / 2));
    earlier_by_chance(valid_for.saturating_sub(lead), random)
}

/// The pause after a failed renewal, given how long the credentials in use are still valid. Without a limit, or after
/// it, a server that still serves the connection may do so for hours.
fn retry_after(left: Duration, random: u64) -> Duration {
    let pause = if left.is_zero() { LATE_RETRY } else { (left / 4).clamp(MIN_RETRY, MAX_RETRY) };
    earlier_by_chance(pause, random)
}

/// The span, shorter by up to a tenth.
fn earlier_by_chance(span: Duration, random: u64) -> Duration {
    span.saturating_sub(span / 10 / 1023 * (random >> 54) as u32)
}

const MIN_LEAD: Duration = Duration::from_secs(180);
const MIN_RETRY: Duration = Duration::from_millis(200);
const MAX_RETRY: Duration = Duration::from_secs(60);
/// As often as an excluded node is dialed.
const LATE_RETRY: Duration = Duration::from_secs(10);
/// A command that is denied sooner after a login is denied to this user.
const MIN_LOGIN_AGE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_login_is_renewed_at_four_fifths_and_three_minutes_before_its_end() {
        for (valid_for, latest) in [(3600, 2880), (900, 720), (600, 420), (360, 180), (100, 50), (2, 1)] {
            let latest = secs(latest);
            let [last, between, first] =
                [0, u64::MAX / 2, u64::MAX].map(|random| renew_after(secs(valid_for), random));
            assert_eq!(last, latest);
            assert!(
                first < between && between < last && last.saturating_sub(first) <= latest / 10,
                "{first:?} {between:?}"
            );
        }
        assert_eq!(renew_after(Duration::ZERO, 7), Duration::ZERO);
        assert!(renew_after(Duration::MAX, u64::MAX) > secs(1 << 40));
    }

    #[test]
    fn a_failed_renewal_is_tried_more_often_as_the_end_comes_near() {
        for (left, pause) in [(secs(720), 60_000), (secs(180), 45_000), (secs(2), 500), (secs(0), 10_000)] {
            assert_eq!(retry_after(left, 0), Duration::from_millis(pause));
        }
        assert_eq!(retry_after(Duration::from_millis(1), 0), MIN_RETRY);
    }

    #[test]
    fn a_denied_command_brings_the_renewal_forward_but_not_at_once_after_a_login() {
        let start = BootTime::new(1_000_000_000_000);
        let at = |seconds| DualTimestamp::new(start.plus(secs(seconds)).nanos(), 0);
        for valid_for in [None, Some(secs(900))] {
            let mut renewal = LoginRenewal::new(valid_for, start, 0);
            assert_eq!(renewal.due(), valid_for.map(|_| start.plus(secs(720))));
            renewal.on_permission_denied(at(3));
            assert_eq!(renewal.due(), Some(start.plus(MIN_LOGIN_AGE)));
            let mut renewal = LoginRenewal::new(valid_for, start, 0);
            renewal.on_permission_denied(at(50));
            assert_eq!(renewal.due(), Some(start.plus(secs(50))));
            renewal.on_failure(at(50).boot(), 0);
            renewal.on_permission_denied(at(51));
            assert_eq!(renewal.due(), Some(start.plus(secs(55))));
        }
    }
}
