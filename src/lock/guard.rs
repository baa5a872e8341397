//! The guard of a held lock, and views of it.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{Instrument, debug_span};

use super::client::Redlock;
use super::error::{ExtendError, InvalidInput, NoReply, ReleaseError};
use super::queue::Admission;
use super::replies::ReleaseOutcome;
use crate::driver::timer::{Sleep, sleep};
use crate::driver::{DriverCommand, ExtendOutcome, NodeStatus, SharedLease};
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::request::LockSpec;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// A held lock.
///
/// It is renewed in the background while the guard lives (unless auto-renewal is off), and released when the
/// guard is dropped. The driver does the release, so no runtime is needed at that point, but the process must
/// run a moment longer. To be sure, call [`release`](Self::release), or [`Redlock::shutdown`] before the
/// process exits.
///
/// # Safety of the lock
///
/// In the child of a fork a guard is not valid, and its release does nothing: the lock belongs to the parent.
///
/// Check [`is_valid`](LockView::is_valid) as close to the protected effect as possible, and stop when
/// [`lost`](LockView::lost) completes. A process that is paused after its last check (stopped, swapped out, its virtual
/// machine moved) can still act after another client has acquired the lock. Send
/// [`fencing_token`](LockView::fencing_token) to the protected resource, so that it can reject such writes.
#[must_use = "dropping a guard releases its lock"]
pub struct Guard {
    client: Redlock,
    view: LockView,
    id: OperationId,
    /// How long an attempt waits for replies, in nanoseconds: half the size of a `Duration`.
    attempt_timeout_nanos: u64,
}

/// A view of a held lock, without the right to release it. [`Mutex::run`](super::Mutex::run) passes it to the
/// work. A
/// [`Guard`] has all its methods too.
#[derive(Clone)]
pub struct LockView {
    lease: Arc<SharedLease>,
}

/// A future that completes when a lock is lost. If the lock is released first, it never completes.
#[must_use = "a future does nothing unless it is awaited"]
pub struct LostSignal {
    lease: Arc<SharedLease>,
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Fires at the last known deadline, because the driver may not run.
    timer: Option<Sleep>,
}

impl Guard {
    pub(super) fn new(
        client: Redlock,
        spec: &LockSpec,
        id: OperationId,
        lease: Arc<SharedLease>,
        admission: Admission,
    ) -> Self {
        // The admission belongs to the lock and not to this guard, so that a lost lock blocks no other task
        // here.
        admission.attach_to(&lease);
        let attempt_timeout_nanos = spec.params.attempt_timeout().as_nanos() as u64;
        Self { client, view: LockView { lease }, id, attempt_timeout_nanos }
    }

    /// How many nodes may lose this lock's key early before another client could reach a quorum. A node loses
    /// it by a restart without data, or by a clock jump. The number is g + q − N − 1 for g nodes known to hold
    /// the key. It grows for a moment after the lock is acquired, as the slower nodes reply.
    #[must_use]
    pub fn spare_nodes(&self) -> i32 {
        self.client.shared.quorum.spare_nodes(self.view.lease.confirmed().len())
    }

    /// A view of this lock to pass around. It can check the lock, but not release it.
    #[must_use]
    pub fn view(&self) -> LockView {
        self.view.clone()
    }

    /// The lock's key on the nodes: prefix and name.
    #[must_use]
    pub fn key(&self) -> &str {
        self.view.lease.key().as_str()
    }

    /// Extends the lock to `ttl` from now, if it does not last longer already. Returns the new deadline.
    /// Background renewals continue with the ttl with which it was acquired.
    ///
    /// # Errors
    ///
    /// [`ExtendError::Lost`] if the lock is lost. Every other error leaves the lock unchanged, valid until its old
    /// deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lock may or may not have been extended; [`deadline`](LockView::deadline)
    /// says which.
    pub async fn extend(&self, ttl: Duration) -> Result<DualTimestamp, ExtendError> {
        let (shared, key) = (&self.client.shared, self.view.lease.key());
        let params =
            LeaseParams::new(ttl, shared.drift, None, Duration::from_nanos(self.attempt_timeout_nanos));
        let params = params.map_err(|invalid| InvalidInput::from(invalid).about(key))?;
        self.client.limits().check_ttl(&params).map_err(|invalid| invalid.about(key))?;
        shared.check_not_forked().map_err(|reason| ExtendError::no_reply(NoReply::NoDriver(reason), key))?;
        let lost = || ExtendError::Lost { key: key.shared() };
        if !self.is_valid() {
            return Err(lost());
        }
        let id = self.id;
        match shared
            .call(Some(params.attempt_timeout()), |reply| DriverCommand::Extend { id, params, reply })
            .await
        {
            // The guard may have seen the old deadline pass, or this task may have slept past the new one.
            // The guard's own check decides.
            Ok(ExtendOutcome::Renewed(deadline)) if self.is_valid() => Ok(deadline),
            Ok(ExtendOutcome::NoQuorum(votes)) => {
                Err(ExtendError::NoQuorum { key: key.shared(), replies: self.client.replies(votes) })
            }
            Ok(ExtendOutcome::Renewed(_) | ExtendOutcome::Lost) => Err(lost()),
            Err(reason) => Err(ExtendError::no_reply(reason, key)),
        }
    }

    /// Releases the lock and returns each node's reply. The guard is invalid from the start of the call. The
    /// call returns when a quorum has confirmed, or at the reply timeout; the driver continues with the other
    /// nodes in the background.
    ///
    /// Releasing a lost lock is no error. The outcome says so, also if only the replies show it: another
    /// client had acquired the keys, or they were deleted.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NoQuorum`] if too few nodes confirmed in time, [`ReleaseError::Closed`] if the driver has ended,
    /// [`ReleaseError::NoDriver`] if it does not run. The lock is given up in any case; at worst its keys stay until
    /// they expire.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lock is released all the same.
    pub async fn release(self) -> Result<ReleaseOutcome, ReleaseError> {
        let has_passed = !self.is_valid();
        let (client, key) = (self.client.clone(), self.view.lease.key().clone());
        let shared = &client.shared;
        let span = debug_span!(target: "quorlock::lock", "release", key = key.as_str());
        let release = shared.call_by(Some(shared.reply_timeout), |reply| self.send_release(Some(reply)));
        let votes = release.instrument(span).await.map_err(|reason| ReleaseError::no_reply(reason, &key))?;
        let count = |is: fn(&Vote) -> bool| votes.iter().filter(|vote| is(vote)).count();
        // A quorum of nodes without this lock's key may have granted the lock to another client. A node that
        // casts no vote has not; a node that never had the key may have.
        let voting: Vec<bool> = shared.status.borrow().iter().map(NodeStatus::is_voting).collect();
        let is_gone = |(vote, votes): (&Vote, &bool)| match vote {
            Vote::HeldByOther { .. } => true,
            Vote::NotHeld => *votes,
            _ => false,
        };
        let gone = votes.iter().zip(&voting).filter(|it| is_gone(*it)).count();
        let was_lost = has_passed || shared.quorum.is_met(gone);
        let is_confirmed = shared.quorum.is_met(count(Vote::confirms_release));
        let replies = client.replies(votes);
        if is_confirmed {
            Ok(ReleaseOutcome { replies, was_lost })
        } else {
            Err(ReleaseError::NoQuorum { key: key.shared(), replies, was_lost })
        }
    }

    /// Invalidates the guard, then sends the release, then passes the admission on. So the next task's SETs
    /// follow the release directly.
    fn send_release(&self, reply: Option<tokio::sync::oneshot::Sender<Vec<Vote>>>) {
        let lease = &self.view.lease;
        // The admission of a lost lock already belongs to another task here, which may be waiting for a
        // notification.
        let Some(has_admission) = lease.mark_released() else { return };
        let hands_off_locally = has_admission && self.client.shared.queue.decide_hand_off(lease.key());
        self.client.shared.commands.send(DriverCommand::Release { id: self.id, hands_off_locally, reply });
        lease.return_admission();
    }
}

/// Gives a guard all methods of a view.
impl Deref for Guard {
    type Target = LockView;

    fn deref(&self) -> &LockView {
        &self.view
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.send_release(None);
    }
}

impl LockView {
    /// Whether the lock is valid right now. Reads the clock, so it is exact even if the lost signal is late.
    /// Once false, it stays false.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.lease.is_valid()
    }

    /// The time until which the lock is valid, unless it is renewed before.
    #[must_use]
    pub fn deadline(&self) -> DualTimestamp {
        self.lease.deadline()
    }

    /// How long the lock is valid from now, unless it is renewed; zero if it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    /// The token to send to the protected resource with every write, so that it can reject the writes of a
    /// holder that was paused and has lost the lock since. It is larger than that of every earlier holder and
    /// stays the same through renewals. `None` in plain mode.
    #[must_use]
    pub fn fencing_token(&self) -> Option<FencingToken> {
        self.lease.fencing_token()
    }

    /// The lost signal: a future, and by [`LostSignal::token`] a cancellation token. It fires 10 ms before
    /// the deadline
    /// (a tenth of the ttl if that is less) if no renewal succeeded. It fires at once when a renewal shows that other
    /// clients hold so many nodes that no quorum is left, or held them in the meantime, or that the lock was
    /// [force-released](super::Redlock::force_release). The future also completes at the deadline if the driver does
    /// not run; the token then fires at the next check of the lock.
    pub fn lost(&self) -> LostSignal {
        LostSignal::of(&self.lease)
    }
}

impl LostSignal {
    fn of(lease: &Arc<SharedLease>) -> Self {
        let token = lease.lost_signal();
        let waiting = Box::pin(token.clone().cancelled_owned());
        Self { lease: Arc::clone(lease), waiting, token, timer: None }
    }

    /// The lost signal as a cancellation token, for code that takes one. It is a child token: cancelling it does not
    /// affect the lock.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

impl Future for LostSignal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while self.waiting.as_mut().poll(cx).is_pending() {
            // Reads the clock, and fires the signal if the deadline has passed. A released lock is never
            // lost.
            if !self.lease.is_valid() && !self.lease.is_lost() {
                return Poll::Pending;
            }
            let left = self.lease.remaining();
            let alarm = self.timer.get_or_insert_with(|| sleep(left));
            if Pin::new(alarm).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", &self.key())
            .field("remaining", &self.remaining())
            .field("spare_nodes", &self.spare_nodes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LockView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockView").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LostSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostSignal").field("is_lost", &self.token.is_cancelled()).finish_non_exhaustive()
    }
}
