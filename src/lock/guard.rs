//! The guard of a held lock, and views of it.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug_span};

use super::client::Redlock;
use super::error::{ExtendError, InvalidInput, NoReply, ReleaseError};
use super::queue::Admission;
use super::release_outcome::ReleaseOutcome;
use crate::driver::timer::timeout;
use crate::driver::{DriverCommand, ExtendOutcome, SharedLease};
use crate::view::{LeaseDeadline, NodeReplies, NodeStatus};
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::request::{Key as LockName, LockSpec, OwnerHash};
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
/// Check [`is_valid`](Self::is_valid) as close to the protected effect as possible, and stop when
/// [`lost`](Self::lost) completes. A process that is paused after its last check (stopped, swapped out, its virtual
/// machine moved) can still act after another client has acquired the lock. Send
/// [`fencing_token`](Self::fencing_token) to the protected resource, so that it can reject such writes.
///
/// # Examples
///
/// ```no_run
/// # async fn step() {}
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = redlock.mutex("reindex").acquire().await?;
/// tokio::select! {
///     reason = guard.lost() => eprintln!("stop the work: {reason}"),
///     () = step() => guard.release().await.map(drop)?,
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping a guard releases its lock"]
pub struct Guard {
    pub(super) client: Redlock,
    pub(super) view: LockView,
    pub(super) id: OperationId,
    attempt_timeout: Duration,
    /// Whether the lock belongs to the admission of a task here. An adopted lock does not: tasks here contend for it
    /// like other processes.
    has_admission: bool,
}

/// A view of a held lock, without the right to release it. Cheap to clone, and independent of the guard's lifetime.
/// [`Mutex::run`](super::Mutex::run) passes one to the work.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = redlock.mutex("reindex").acquire().await?;
/// let view = guard.view();
/// tokio::spawn(async move { eprintln!("{} has ended: lost for {:?}", view.key(), view.ended().await) });
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LockView {
    pub(super) lease: Arc<SharedLease>,
    quorum: quorlock_proto::quorum::Quorum,
}

/// Defines the methods that a guard and a view share.
macro_rules! view_methods {
    ($self:ident => $view:expr) => {
        /// The lock's key on the nodes: prefix and name.
        #[must_use]
        pub fn key(&$self) -> &LockName {
            $view.lease.key()
        }

        /// Whether the lock is valid right now. Reads the clock, so it is exact even if the lost signal is late.
        /// Once false, it stays false.
        #[must_use]
        pub fn is_valid(&$self) -> bool {
            $view.lease.is_valid()
        }

        /// When the lock ends, unless it is renewed before.
        #[must_use]
        pub fn deadline(&$self) -> LeaseDeadline {
            LeaseDeadline::new($view.lease.deadline())
        }

        /// How long the lock is valid from now, unless it is renewed; zero if it is lost.
        #[must_use]
        pub fn remaining(&$self) -> Duration {
            $view.lease.remaining()
        }

        /// The token to send to the protected resource with every write, so that it can reject the writes of a
        /// holder that was paused and has lost the lock since. It is larger than that of every earlier holder and
        /// stays the same through renewals. `None` in plain mode.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # fn write(token: quorlock::FencingToken) {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("account:7").acquire().await?;
        /// write(guard.fencing_token().expect("not in plain mode"));
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn fencing_token(&$self) -> Option<FencingToken> {
            $view.lease.fencing_token()
        }

        /// The hash of this owner, as an [inspection](super::Redlock::inspect) shows it. It cannot release the lock.
        #[must_use]
        pub fn owner_hash(&$self) -> OwnerHash {
            $view.lease.owner_hash()
        }

        /// How many nodes may lose this lock's key early (by a restart without data, or a clock jump) before
        /// another client could reach a quorum. For g nodes known to hold the key it is g + q − N − 1. The number
        /// grows for a moment after the lock is acquired, as the slower nodes reply.
        #[must_use]
        pub fn spare_nodes(&$self) -> i32 {
            $view.quorum.spare_nodes($view.lease.confirmed().len())
        }

        /// Why the lock was lost; `None` if it is held, or was released before.
        #[must_use]
        pub fn loss_reason(&$self) -> Option<LossReason> {
            $view.lease.is_valid();
            $view.lease.loss_reason()
        }

        /// Completes when the lock is lost, with the reason: 10 ms before the deadline (a tenth of the ttl if that is
        /// less) if no renewal succeeded. It completes at once when a renewal shows that other clients hold so many
        /// nodes that no quorum is left, or held them in the meantime, or that the lock was
        /// [force-released](super::Redlock::force_release). At the deadline it completes even if the driver does
        /// not run. If the lock is released first, it never completes: see [`ended`](Self::ended).
        ///
        /// # Cancel safety
        ///
        /// It may be dropped and called again.
        pub async fn lost(&$self) -> LossReason {
            match $view.ended_by().await {
                Some(reason) => reason,
                None => pending().await,
            }
        }

        /// Completes when the lock has ended: with the reason if it was lost, with `None` if it was released, abandoned
        /// or made a ticket.
        ///
        /// # Cancel safety
        ///
        /// It may be dropped and called again.
        pub async fn ended(&$self) -> Option<LossReason> {
            $view.ended_by().await
        }

        /// The lost signal as a token, for code that takes one. It is a child token: cancelling it does not affect the
        /// lock. If the driver does not run at the deadline, it fires at the next check of the lock.
        #[must_use]
        pub fn cancellation_token(&$self) -> CancellationToken {
            $view.lease.lost_signal().child_token()
        }
    };
}

impl Guard {
    pub(super) fn new(
        client: Redlock,
        spec: &LockSpec,
        id: OperationId,
        lease: Arc<SharedLease>,
        admission: Option<Admission>,
    ) -> Self {
        // The admission belongs to the lock and not to this guard, so that a lost lock blocks no other task
        // here.
        let has_admission = admission.is_some();
        if let Some(admission) = admission {
            admission.attach_to(&lease);
        }
        let view = LockView { lease, quorum: client.shared.quorum };
        Self { client, view, id, attempt_timeout: spec.params.attempt_timeout(), has_admission }
    }

    view_methods!(self => self.view);

    /// A view of this lock to pass around. It can check the lock, but not release it.
    #[must_use]
    pub fn view(&self) -> LockView {
        self.view.clone()
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
    /// If the future is dropped, the lock may or may not have been extended; [`deadline`](Self::deadline)
    /// says which.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), quorlock::error::ExtendError> {
    /// let deadline = guard.extend(std::time::Duration::from_secs(20)).await?;
    /// assert!(deadline.remaining().as_secs() > 15);
    /// # Ok(()) }
    /// ```
    pub async fn extend(&self, ttl: Duration) -> Result<LeaseDeadline, ExtendError> {
        let (shared, key) = (&self.client.shared, self.view.lease.key());
        let params = LeaseParams::new(ttl, shared.drift, None, self.attempt_timeout);
        let params = params.map_err(|invalid| InvalidInput::from(invalid).of("ttl").about(key))?;
        self.client.limits().check_ttl(&params).map_err(|invalid| invalid.about(key))?;
        shared.check_not_forked().map_err(|reason| ExtendError::no_reply(NoReply::NoDriver(reason), key))?;
        let lost = || ExtendError::Lost { key: key.clone() };
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
            Ok(ExtendOutcome::Renewed(deadline)) if self.is_valid() => Ok(LeaseDeadline::new(deadline)),
            Ok(ExtendOutcome::NoQuorum(votes)) => {
                Err(ExtendError::NoQuorum { key: key.clone(), replies: self.client.replies(votes) })
            }
            Ok(ExtendOutcome::Renewed(_) | ExtendOutcome::Lost) => Err(lost()),
            Err(reason) => Err(ExtendError::no_reply(reason, key)),
        }
    }

    /// Releases the lock and returns each node's reply. The guard is invalid from the start of the call. The
    /// call returns when a quorum has confirmed, or at the reply timeout; the driver continues with the other
    /// nodes in the background.
    ///
    /// A release that is not [confirmed](ReleaseOutcome::confirmed) is no error: the work was done under the lock, and
    /// at worst the keys stay until they expire.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Lost`] if the lock had been lost before, so that the work may have overlapped with that of
    /// another holder. Also if only the replies show it: another client had acquired the keys, or they were deleted.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lock is released all the same.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), quorlock::error::ReleaseError> {
    /// let outcome = guard.release().await?;
    /// if !outcome.confirmed {
    ///     eprintln!("the next holder may have to wait for the ttl: {}", outcome.replies);
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "unlock")]
    pub async fn release(self) -> Result<ReleaseOutcome, ReleaseError> {
        // Reads the clock, and records the loss if the deadline has passed.
        let _ = self.is_valid();
        let (client, key) = (self.client.clone(), self.view.lease.key().clone());
        let shared = &client.shared;
        let span = debug_span!(target: "quorlock::lock", "release", %key);
        let release = shared.call_by(Some(shared.reply_timeout), |reply| self.send_release(Some(reply)));
        let outcome = release.instrument(span).await;
        // Read now: the driver may have reported a loss before the release marked the lock.
        let loss = self.view.lease.loss_reason();
        let Ok(votes) = outcome else {
            let replies = NodeReplies::default();
            return match loss {
                Some(reason) => Err(ReleaseError::Lost { key, reason, replies }),
                None => Ok(ReleaseOutcome { confirmed: false, replies }),
            };
        };
        // A quorum of nodes without this lock's key may have granted the lock to another client. A node that
        // casts no vote has not; a node that never had the key may have.
        let voting: Vec<bool> = shared.status.borrow().iter().map(NodeStatus::is_voting).collect();
        let is_gone = |(vote, is_voting): (&Vote, &bool)| match vote {
            Vote::HeldByOther { .. } => true,
            Vote::NotHeld => *is_voting,
            _ => false,
        };
        let gone = votes.iter().zip(&voting).filter(|it| is_gone(*it)).count();
        let loss = loss.or_else(|| shared.quorum.is_met(gone).then_some(LossReason::TakenByOthers));
        let confirmed = shared.quorum.is_met(votes.iter().filter(|vote| vote.confirms_release()).count());
        let replies = client.replies(votes);
        match loss {
            Some(reason) => Err(ReleaseError::Lost { key, reason, replies }),
            None => Ok(ReleaseOutcome { confirmed, replies }),
        }
    }

    /// Gives up the lock without a release: it is renewed no more, and its keys stay until they expire. Use it to keep
    /// a name locked for the rest of its ttl, as a pause between two runs of a job. Returns the deadline of the lock; a
    /// renewal in flight may keep the keys for up to a ttl longer. If the lock is lost already, the keys may be those
    /// of another holder.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) {
    /// let locked_until = guard.abandon();
    /// println!("no other process acquires it for {:?}", locked_until.remaining());
    /// # }
    /// ```
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn abandon(self) -> LeaseDeadline {
        let deadline = self.deadline();
        if self.view.lease.mark_released().is_some() {
            self.client.shared.commands.send(DriverCommand::Abandon(self.id));
            self.view.lease.return_admission();
        }
        deadline
    }

    /// Invalidates the guard, then sends the release, then passes the admission on. So the next task's SETs
    /// follow the release directly.
    fn send_release(&self, reply: Option<tokio::sync::oneshot::Sender<Vec<Vote>>>) {
        let lease = &self.view.lease;
        // The admission of a lost lock already belongs to another task here, which may be waiting for a
        // notification.
        let Some(was_held) = lease.mark_released() else { return };
        let hands_off_locally =
            was_held && self.has_admission && self.client.shared.queue.decide_hand_off(lease.key());
        self.client.shared.commands.send(DriverCommand::Release { id: self.id, hands_off_locally, reply });
        lease.return_admission();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.send_release(None);
    }
}

impl LockView {
    view_methods!(self => self);

    /// Waits for the end of the lock. A timer of its own fires at the last known deadline, because the driver may not
    /// run.
    async fn ended_by(&self) -> Option<LossReason> {
        let signal = self.lease.end_signal();
        loop {
            // Reads the clock, and latches the loss if the deadline has passed.
            if !self.lease.is_valid() {
                return self.lease.loss_reason();
            }
            let _ = timeout(self.lease.remaining(), signal.cancelled()).await;
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", self.key())
            .field("remaining", &self.remaining())
            .field("spare_nodes", &self.spare_nodes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LockView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockView")
            .field("key", self.key())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
