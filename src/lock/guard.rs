//! The guard of a held lock.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug_span};

use super::client::Redlock;
use super::error::{ExtendError, InvalidInput, NoReply, ReleaseError};
use super::lock_view::{LockView, view_methods};
use super::release_outcome::ReleaseOutcome;
use crate::driver::{Admission, DriverCommand, ExtendOutcome, SharedLease};
use crate::view::{LeaseDeadline, NodeReplies, NodeStatus};
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::lease_params::LeaseParams;
use quorlock_proto::request::{Key as LockName, LockSpec, OperationId, OwnerHash};
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
        let view = LockView { lease, quorum: Arc::clone(&client.shared.quorum) };
        Self { client, view, id, attempt_timeout: spec.params.attempt_timeout(), has_admission }
    }

    view_methods!(self => self.view);

    /// A view of this lock to pass around. It can check the lock, but not release it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn step() {}
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("reindex").acquire().await?;
    /// let view = guard.view();
    /// let worker = tokio::spawn(async move {
    ///     while view.is_valid() {
    ///         step().await;
    ///     }
    /// });
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn view(&self) -> LockView {
        self.view.clone()
    }

    /// Extends the lock to `ttl` from now, if it does not last longer already. Returns the new deadline.
    /// Background renewals continue with the [ttl](Self::ttl) of the lock.
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
        let loss = loss.or_else(|| shared.quorum.get().is_met(gone).then_some(LossReason::TakenByOthers));
        let confirmed =
            shared.quorum.get().is_met(votes.iter().filter(|vote| vote.confirms_release()).count());
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

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("key", self.key())
            .field("remaining", &self.remaining())
            .field("spare_nodes", &self.spare_nodes())
            .finish_non_exhaustive()
    }
}
