//! What the user holds.

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
use super::error::{ExtendError, InvalidInput, NoAnswer, ReleaseError};
use super::queue::Admission;
use super::replies::ReleaseOutcome;
use crate::driver::timer::{Alarm, sleep};
use crate::driver::{DriverCommand, ExtendOutcome, NodeStatus, SharedLease};
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::request::LockSpec;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// A lock that is held.
///
/// It is renewed in the background for as long as it lives (unless told otherwise), and released when it is dropped:
/// the driver does that, so no runtime is needed at that point, but the process must live on for a moment; call
/// [`release`](Self::release), or [`Redlock::shutdown`] before the end, to be sure.
///
/// # Safety of the lock
///
/// In the child of a fork a guard is not valid, and its release does nothing: the lock is the parent's.
///
/// Look at [`is_valid`](LockView::is_valid) as close to the protected effect as you can, and stop when
/// [`lost_signal`](LockView::lost_signal) fires. A process that is paused after its last look (stopped, swapped out, its virtual
/// machine moved) can still act after the lock has passed to somebody else: hand
/// [`fencing_token`](LockView::fencing_token) to the resource, so that it can refuse that.
#[must_use = "dropping a guard releases its lock"]
pub struct Guard {
    client: Redlock,
    view: LockView,
    id: OperationId,
    /// How long an attempt waits for answers: half the room of a `Duration`.
    patience_nanos: u64,
}

/// A look at a held lock, without the right to release it: what [`Mutex::run`](super::Mutex::run) gives the work, and
/// what a [`Guard`] can be asked too.
#[derive(Clone)]
pub struct LockView {
    lease: Arc<SharedLease>,
}

/// Completes when a lock is lost; never, if it is released first.
#[must_use = "a future does nothing unless it is awaited"]
pub struct LostSignal {
    hold: Arc<SharedLease>,
    token: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Rings at the deadline that was known last, for the driver may not run.
    alarm: Option<Alarm>,
}

impl Guard {
    pub(super) fn new(
        client: Redlock,
        spec: &LockSpec,
        id: OperationId,
        hold: Arc<SharedLease>,
        turn: Admission,
    ) -> Self {
        // The turn goes with the lock and not with this guard: a lock that is lost blocks nobody here.
        turn.attach_to(&hold);
        let patience_nanos = spec.params.attempt_timeout().as_nanos() as u64;
        Self { client, view: LockView { lease: hold }, id, patience_nanos }
    }

    /// How many nodes may lose our key before its time (a restart without data, a clock that jumps) until a rival
    /// could reach a quorum: g + q − N − 1 for g nodes known to hold it. It grows for a moment after the lock is
    /// taken, as the slower nodes answer.
    #[must_use]
    pub fn spare_nodes(&self) -> i32 {
        self.client.shared.quorum.spare_nodes(self.view.lease.confirmed().len())
    }

    /// A view of this lock to hand around: it can look, and not release.
    #[must_use]
    pub fn view(&self) -> LockView {
        self.view.clone()
    }

    /// The lock's key on the nodes: prefix and name.
    #[must_use]
    pub fn key(&self) -> &str {
        self.view.lease.key().as_str()
    }

    /// Makes the lock last for `ttl` from now, if it does not last longer already; gives back the new deadline.
    /// Background renewals go on with the ttl it was acquired with.
    ///
    /// # Errors
    ///
    /// [`ExtendError::LostSignal`] if the lock is lost. Every other error leaves the lock as it was, good until the
    /// deadline it had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it open whether the lock was extended; [`deadline`](LockView::deadline) tells.
    pub async fn extend(&self, ttl: Duration) -> Result<DualTimestamp, ExtendError> {
        let (shared, key) = (&self.client.shared, self.view.lease.key());
        let params = LeaseParams::new(ttl, shared.drift, None, Duration::from_nanos(self.patience_nanos));
        let params = params.map_err(|bad| InvalidInput::from(bad).about(key))?;
        self.client.limits().check_ttl(&params).map_err(|bad| bad.about(key))?;
        shared.is_here().map_err(|why| ExtendError::unanswered(NoAnswer::NoDriver(why), key))?;
        let lost = || ExtendError::Lost { key: key.shared() };
        if !self.is_valid() {
            return Err(lost());
        }
        let id = self.id;
        match shared
            .call(Some(params.attempt_timeout()), |reply| DriverCommand::Extend { id, params, reply })
            .await
        {
            // The holder may have seen the old deadline pass, or slept past the new one. Its own look decides.
            Ok(ExtendOutcome::Renewed(deadline)) if self.is_valid() => Ok(deadline),
            Ok(ExtendOutcome::NoQuorum(votes)) => {
                Err(ExtendError::NoQuorum { key: key.shared(), replies: self.client.replies(votes) })
            }
            Ok(ExtendOutcome::Renewed(_) | ExtendOutcome::Lost) => Err(lost()),
            Err(why) => Err(ExtendError::unanswered(why, key)),
        }
    }

    /// Gives the lock up and says what each node answered. The guard is dead from the first moment on; the answer
    /// comes when a quorum has confirmed, or at the node time-out, and the rest goes on in the background.
    ///
    /// Releasing a lock that was lost is no error; the report says so, also where only the answers show it: another had
    /// taken the keys, or they were deleted.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NoQuorum`] if too few nodes confirmed in time, [`ReleaseError::Closed`] if the driver has
    /// ended, [`ReleaseError::NoDriver`] if it does not run. The lock is given up all the same; at worst its keys stand until they expire.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases the lock all the same.
    pub async fn release(self) -> Result<ReleaseOutcome, ReleaseError> {
        let has_passed = !self.is_valid();
        let (client, key) = (self.client.clone(), self.view.lease.key().clone());
        let shared = &client.shared;
        let span = debug_span!(target: "quorlock::lock", "release", key = key.as_str());
        let release = shared.call_by(Some(shared.reply_timeout), |reply| self.end(Some(reply)));
        let votes = release.instrument(span).await.map_err(|why| ReleaseError::unanswered(why, &key))?;
        let count = |is: fn(&Vote) -> bool| votes.iter().filter(|vote| is(vote)).count();
        // A quorum without our key may have given the lock to another. A node that casts no vote has not; one that never
        // had the key may have.
        let voting: Vec<bool> = shared.view.borrow().iter().map(NodeStatus::is_voting).collect();
        let is_gone = |(vote, votes): (&Vote, &bool)| match vote {
            Vote::HeldByOther { .. } => true,
            Vote::NotHeld => *votes,
            _ => false,
        };
        let gone = votes.iter().zip(&voting).filter(|it| is_gone(*it)).count();
        let was_lost = has_passed || shared.quorum.is_met(gone);
        let is_confirmed = shared.quorum.is_met(count(Vote::confirms_release));
        let report = client.replies(votes);
        if is_confirmed {
            Ok(ReleaseOutcome { replies: report, was_lost })
        } else {
            Err(ReleaseError::NoQuorum { key: key.shared(), replies: report, was_lost })
        }
    }

    /// Dead first, then the release, then the turn to the next, whose SETs so come right behind the release.
    fn end(&self, reply: Option<tokio::sync::oneshot::Sender<Vec<Vote>>>) {
        let hold = &self.view.lease;
        // The turn of a lock that was lost has gone to somebody else here, who may be waiting for a call.
        let Some(has_turn) = hold.mark_released() else { return };
        let hands_off_locally = has_turn && self.client.shared.queue.hands_off_locally(hold.key());
        self.client.shared.orders.send(DriverCommand::Release { id: self.id, hands_off_locally, reply });
        hold.return_admission();
    }
}

/// A guard can be asked all that a view can.
impl Deref for Guard {
    type Target = LockView;

    fn deref(&self) -> &LockView {
        &self.view
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl LockView {
    /// Whether the lock may be relied upon right now. Reads the clock, so it is exact even where the lost signal
    /// is late; once false, it stays false.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.lease.is_valid()
    }

    /// Until when the lock may be relied upon, unless it is renewed before.
    #[must_use]
    pub fn deadline(&self) -> DualTimestamp {
        self.lease.deadline()
    }

    /// How long the lock may be relied upon from now, unless it is renewed; zero if it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease.remaining()
    }

    /// What to hand to the protected resource, so that it can refuse the writes of a holder that was paused and has lost
    /// the lock since. Larger than that of every earlier holder; it stays the same through renewals. `None` in plain
    /// mode.
    #[must_use]
    pub fn fencing_token(&self) -> Option<FencingToken> {
        self.lease.token()
    }

    /// The lost signal: a future, and by [`LostSignal::token`] a cancellation token. It comes 10 ms before the deadline (a
    /// tenth of the ttl if that is less) when no renewal got through. It comes at once when a renewal shows that others
    /// have taken so many nodes that no quorum is left, or had taken them since, or that the lock was
    /// [broken](super::Redlock::break_lock). The future comes at the deadline also where the driver does not run; the token
    /// then comes with the next look at the lock.
    pub fn lost(&self) -> LostSignal {
        LostSignal::of(&self.lease)
    }
}

impl LostSignal {
    fn of(hold: &Arc<SharedLease>) -> Self {
        let token = hold.lost_signal();
        let waiting = Box::pin(token.clone().cancelled_owned());
        Self { hold: Arc::clone(hold), waiting, token, alarm: None }
    }

    /// The same signal as a token, to hand to code that takes one. Cancelling it is of no use to anybody.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

impl Future for LostSignal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while self.waiting.as_mut().poll(cx).is_pending() {
            // Looks at the clock, and gives the signal if the deadline has passed. A lock that was released has no loss.
            if !self.hold.is_valid() && !self.hold.is_lost() {
                return Poll::Pending;
            }
            let left = self.hold.remaining();
            let alarm = self.alarm.get_or_insert_with(|| sleep(left));
            if Pin::new(alarm).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", &self.key())
            .field("remaining", &self.remaining())
            .field("margin", &self.spare_nodes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LockView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LostSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lost").field("is_lost", &self.token.is_cancelled()).finish_non_exhaustive()
    }
}
