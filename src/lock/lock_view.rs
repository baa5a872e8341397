//! A view of a held lock, and the methods that it shares with the guard.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::driver::{SharedLease, SharedQuorum};
use crate::host::timer::timeout;
use crate::view::LeaseDeadline;
use quorlock_proto::fence::FencingToken;
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::{Key as LockName, OwnerHash};

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
    pub(super) quorum: Arc<SharedQuorum>,
}

impl LockView {
    view_methods!(self => self);

    /// Waits for the end of the lock. A timer of its own fires at the last known deadline, because the driver may not
    /// run.
    pub(super) async fn ended_by(&self) -> Option<LossReason> {
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

impl fmt::Debug for LockView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockView")
            .field("key", self.key())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// Defines the methods that a guard and a view share.
macro_rules! view_methods {
    ($self:ident => $view:expr) => {
        /// The lock's key on the nodes: prefix and name.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("orders:42").acquire().await?;
        /// println!("locked: {}", guard.key());
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn key(&$self) -> &LockName {
            $view.lease.key()
        }

        /// Whether the lock is valid right now. Reads the clock, so it is exact even if the lost signal is late.
        /// Once false, it stays false.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # fn charge() {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("payment:42").acquire().await?;
        /// // … prepare the payment …
        /// if guard.is_valid() {
        ///     charge();
        /// }
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn is_valid(&$self) -> bool {
            $view.lease.is_valid()
        }

        /// When the lock ends, unless it is renewed before.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// let deadline = guard.deadline();
        /// println!("if this process dies now, the lock is free after {:?}", deadline.remaining());
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn deadline(&$self) -> LeaseDeadline {
            LeaseDeadline::new($view.lease.deadline())
        }

        /// How long the lock is valid from now, unless it is renewed; zero if it is lost.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// use std::time::Duration;
        ///
        /// # async fn import(page: u32) {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// for page in 1..=100 {
        ///     // To import a page takes up to two seconds.
        ///     if guard.remaining() < Duration::from_secs(2) {
        ///         break;
        ///     }
        ///     import(page).await;
        /// }
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn remaining(&$self) -> Duration {
            $view.lease.remaining()
        }

        /// The ttl with which the lock renews itself. It is the [mutex's](super::Mutex::ttl), until a reconfiguration
        /// makes the lock cluster's max ttl shorter than that; then it is this max ttl from the next renewal on, and
        /// stays so. A margin before the deadline that is a part of the ttl must follow it; otherwise it may begin
        /// before the next renewal.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// // Renewals are due at a third of the ttl, so two have failed.
        /// if guard.remaining() < guard.ttl() / 3 {
        ///     eprintln!("{} is not renewed", guard.key());
        /// }
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn ttl(&$self) -> Duration {
            $view.lease.ttl()
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
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// let holder = redlock.inspect("nightly").await?.holder();
        /// assert_eq!(holder.map(|holder| holder.owner), Some(guard.owner_hash()));
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn owner_hash(&$self) -> OwnerHash {
            $view.lease.owner_hash()
        }

        /// How many nodes may lose this lock's key early (by a restart without data, or a clock jump) before
        /// another client could reach a quorum. For g nodes known to hold the key it is g + q − N − 1. The number
        /// grows for a moment after the lock is acquired, as the slower nodes reply.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("migration").acquire().await?;
        /// if guard.spare_nodes() < 1 {
        ///     eprintln!("{}: the next node that loses its data may end the mutual exclusion", guard.key());
        /// }
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn spare_nodes(&$self) -> i32 {
            $view.quorum.get().spare_nodes($view.lease.confirmed().len())
        }

        /// Why the lock was lost; `None` if it is held, or was released before.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn work() {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// work().await;
        /// if let Some(reason) = guard.loss_reason() {
        ///     eprintln!("the result is discarded: {reason}");
        /// }
        /// # Ok(()) }
        /// ```
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
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn step() {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// tokio::select! {
        ///     reason = guard.lost() => eprintln!("the work is cancelled: {reason}"),
        ///     () = step() => {}
        /// }
        /// # Ok(()) }
        /// ```
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
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("nightly").acquire().await?;
        /// let view = guard.view();
        /// tokio::spawn(async move {
        ///     match view.ended().await {
        ///         Some(reason) => eprintln!("{} is lost: {reason}", view.key()),
        ///         None => println!("{} is released", view.key()),
        ///     }
        /// });
        /// # Ok(()) }
        /// ```
        pub async fn ended(&$self) -> Option<LossReason> {
            $view.ended_by().await
        }

        /// The lost signal as a token, for code that takes one. It is a child token: cancelling it does not affect the
        /// lock. If the driver does not run at the deadline, it fires at the next check of the lock.
        ///
        /// # Examples
        ///
        /// ```no_run
        /// # async fn crawl(stop: quorlock::CancellationToken) {}
        /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
        /// let guard = redlock.mutex("crawler").acquire().await?;
        /// // `crawl` returns when the token is cancelled.
        /// crawl(guard.cancellation_token()).await;
        /// # Ok(()) }
        /// ```
        #[must_use]
        pub fn cancellation_token(&$self) -> CancellationToken {
            $view.lease.lost_signal().child_token()
        }
    };
}
pub(super) use view_methods;
