//! A named lock and its options, before it is acquired.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use super::acquire::AttemptOptions;
use super::client::Redlock;
use super::error::{AcquireError, InvalidInput, InvalidInputKind, ReleaseError, RunError};
use super::guard::{Guard, LockView};
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::request::{Key as LockName, LockSpec};
use quorlock_proto::span::Span;

/// A mutual-exclusion lock by name. Set its options, then call [`acquire`](Self::acquire).
///
/// At most one holder at a time has a valid guard for the name, in any process on any machine. This holds
/// while a majority of the nodes keep their data and clocks run at roughly the right speed. It does *not*
/// stop a holder that is paused after its last check of the guard; no lock with a time limit can.
///
/// Not re-entrant: a task that holds the lock and acquires it again waits for itself.
#[derive(Clone, Debug)]
#[must_use = "a lock is acquired by `acquire`, `try_acquire` or `run`"]
pub struct Mutex {
    pub(super) client: Redlock,
    /// The key itself if there is no prefix.
    pub(super) name: LockName,
    pub(super) ttl: Option<Duration>,
    min_fencing_number: u64,
    pub(super) wait_timeout: Option<Duration>,
    pub(super) min_validity: Duration,
    attempt_timeout: Option<Duration>,
    policy: RenewalPolicy,
}

impl Mutex {
    pub(super) fn new(client: Redlock, name: &[u8]) -> Self {
        Self {
            client,
            name: LockName::new(name),
            ttl: None,
            min_fencing_number: 0,
            wait_timeout: None,
            min_validity: Duration::ZERO,
            attempt_timeout: None,
            policy: RenewalPolicy { auto_renew: true, max_hold_time: None },
        }
    }

    /// How long the lock outlives a holder that dies: from 10 ms to the lock cluster's [max
    /// TTL](super::RedlockBuilder::max_ttl) (plain mode: a year). A living holder's lock is renewed, so the
    /// ttl does not limit how long work may take. Defaults to 10 s, or the max TTL if that is less.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Requires a fencing number above this one, the largest that the protected resource has seen. At most
    /// 2^53 − 2^40. Normally not needed, because numbers always grow while the nodes keep their data. Use it
    /// to recover after the nodes have lost their data and the resource rejects the new, smaller numbers. A
    /// minimum far ahead of the nodes' clocks stays in effect while fewer than 2q − N nodes lose it, because
    /// no clock puts the nodes above it again. The numbers of all names that are new to the nodes then also
    /// continue from there. Defaults to none.
    pub const fn min_fencing_number(mut self, seen: u64) -> Self {
        self.min_fencing_number = seen;
        self
    }

    /// How long [`acquire`](Self::acquire) and [`run`](Self::run) keep trying; unrelated to the ttl. Connecting also
    /// counts as waiting, but even the shortest wait allows for one dial of each node. Zero tries once. Defaults to
    /// waiting forever.
    pub const fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = Some(timeout);
        self
    }

    /// How long the lock must be valid at least when [`acquire`](Self::acquire) returns it. An attempt whose replies
    /// took so long that less is left fails as [`TooLate`](AcquireError::TooLate). Less than the ttl without the clock drift, 1 % and 2 ms by
    /// default. Defaults to zero.
    pub const fn min_validity(mut self, validity: Duration) -> Self {
        self.min_validity = validity;
        self
    }

    /// How long one attempt waits for the nodes' replies, at most a quarter of the ttl. Defaults to the
    /// smaller of ttl/8 and the client's reply timeout.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Whether the lock is renewed from a third of its ttl on, while the guard lives. Defaults to true.
    pub const fn auto_renew(mut self, auto_renew: bool) -> Self {
        self.policy.auto_renew = auto_renew;
        self
    }

    /// The longest time that the lock may be held, however often it is renewed. No deadline goes past it, and
    /// the lock is lost then. It protects against work that never ends. Defaults to no limit.
    pub const fn max_hold_time(mut self, time: Duration) -> Self {
        self.policy.max_hold_time = Some(time);
        self
    }

    /// Acquires the lock. Waits for it as long as [`wait_timeout`](Self::wait_timeout) says.
    ///
    /// Tasks of one client are served in the order they came. Processes wait in a wait queue on one of the
    /// nodes, and the release of the lock notifies the first of them. A failed minority of the nodes, even if
    /// it includes that node, may delay an attempt by a second or two, but never prevents it.
    ///
    /// # Errors
    ///
    /// When the wait is over, the last obstacle: [`Contended`](AcquireError::Contended) by other clients, or
    /// [`NoQuorum`](AcquireError::NoQuorum). At the latest one attempt timeout and half a second after the wait:
    /// [`NoDriver`](AcquireError::NoDriver), if the runtime in which the client was built is not running. At once, if
    /// waiting cannot help: [`NodesExcluded`](AcquireError::NodesExcluded),
    /// [`InvalidInput`](AcquireError::InvalidInput), [`Closed`](AcquireError::Closed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any point leaves no lock behind. The driver releases what the attempt may have
    /// acquired, and the position in the queue goes to the next task.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::AcquireError;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let mutex = redlock.mutex("nightly").ttl(Duration::from_secs(20)).wait_timeout(Duration::from_secs(60));
    /// match mutex.acquire().await {
    ///     Ok(guard) => guard.release().await.map(drop)?,
    ///     Err(AcquireError::Contended { .. }) => println!("another process runs it"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "lock")]
    pub async fn acquire(&self) -> Result<Guard, AcquireError> {
        super::acquire::acquire(self, self.wait_timeout).await
    }

    /// Acquires the lock, but waits for it no longer than this. Returns `None` if it is contended until then: other
    /// clients hold it, or another task of this client holds it or waits for it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except [`Contended`](AcquireError::Contended).
    /// [`InvalidInput`](AcquireError::InvalidInput) if a [`wait_timeout`](Self::wait_timeout) is set too.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::AcquireError> {
    /// let Some(guard) = redlock.mutex("nightly").try_acquire_for(std::time::Duration::from_secs(5)).await? else {
    ///     return Ok(()); // another process has it
    /// };
    /// # Ok(()) }
    /// ```
    #[doc(alias = "lock")]
    pub async fn try_acquire_for(&self, wait: Duration) -> Result<Option<Guard>, AcquireError> {
        self.check_no_wait_timeout()?;
        match super::acquire::acquire(self, Some(wait)).await {
            Err(AcquireError::Contended { .. }) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Tries once to acquire the lock. Returns `None` if other clients hold it, or if another task of this
    /// client holds it or waits for it. If connections have just broken, as idle ones do when the servers close them, it waits for the next dial of these nodes,
    /// within its
    /// [`attempt_timeout`](Self::attempt_timeout).
    ///
    /// Several clients that try at the same instant may split the votes, so that none of them gets a quorum.
    /// Therefore a try that some nodes granted, but no quorum, is repeated up to twice, each time after a
    /// random pause of 5 to 30 ms. Then one of the clients almost always gets the lock; that is not
    /// guaranteed. A try that no node grants is not repeated; this is normal while the lock is held. If a
    /// held lock is not on all nodes (it was just acquired, or a node has just come back), a try may take up
    /// to two more attempts to fail.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except [`Contended`](AcquireError::Contended).
    /// [`InvalidInput`](AcquireError::InvalidInput) if a [`wait_timeout`](Self::wait_timeout) is set: use
    /// [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::AcquireError> {
    /// if let Some(guard) = redlock.mutex("nightly").try_acquire().await? {
    ///     // … only this task holds the lock …
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "try_lock")]
    pub async fn try_acquire(&self) -> Result<Option<Guard>, AcquireError> {
        self.check_no_wait_timeout()?;
        super::acquire::try_acquire(self).await
    }

    /// Runs `work` under the lock: acquires it, keeps it renewed, **drops the work when the lock is lost**,
    /// and releases it. The work returns a `Result`, whose error is passed on.
    ///
    /// # Errors
    ///
    /// [`RunError::Acquire`] if the lock was not acquired, so that the work was not started. [`RunError::Lost`] if the
    /// lock was lost before the work had ended, or if the release shows that other clients had acquired or
    /// deleted its keys. [`RunError::Work`] if the work failed. A release that is not confirmed is no error: the work
    /// is done, and the keys expire.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work and releases the lock in the background.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::RunError<std::io::Error>> {
    /// let rows = redlock.mutex("nightly").run(async |lock| {
    ///     while lock.is_valid() { /* one step of the work */ break }
    ///     Ok(7)
    /// }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run<T, E, F, Fut>(&self, work: F) -> Result<T, RunError<E>>
    where
        F: FnOnce(LockView) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let guard = self.acquire().await?;
        let view = guard.view();
        let key = guard.key().clone();
        let outcome = match select(pin!(work(guard.view())), pin!(view.lost())).await {
            Either::Left((outcome, _)) => outcome.map_err(RunError::Work),
            Either::Right((reason, _)) => Err(RunError::Lost { key: key.clone(), reason }),
        };
        // The work ended too late to be trusted if the lock was lost before its release.
        match guard.release().await {
            Ok(_) => outcome,
            Err(ReleaseError::Lost { reason, .. }) => Err(RunError::Lost { key, reason }),
        }
    }

    fn check_no_wait_timeout(&self) -> Result<(), InvalidInput> {
        if self.wait_timeout.is_none() {
            return Ok(());
        }
        let invalid = InvalidInput::new(
            InvalidInputKind::Conflict,
            "a wait timeout has no effect here: use `acquire`, or `try_acquire_for` with a wait",
        );
        Err(invalid.of("wait_timeout").about(&self.client.key(&self.name)?))
    }

    /// The name of the lock, without the key prefix.
    #[must_use]
    pub const fn name(&self) -> &LockName {
        &self.name
    }

    /// Checks all options and builds the spec. With `want_holder_ttl`, attempts also query the holder's
    /// remaining ttl from nodes that did not grant.
    pub(super) fn checked_spec(
        &self,
        want_holder_ttl: bool,
    ) -> Result<(LockSpec, AttemptOptions), InvalidInput> {
        let key = self.client.key(&self.name)?;
        self.lock_spec(key.clone(), want_holder_ttl).map_err(|invalid| invalid.about(&key))
    }

    fn lock_spec(
        &self,
        key: LockName,
        want_holder_ttl: bool,
    ) -> Result<(LockSpec, AttemptOptions), InvalidInput> {
        let limits = self.client.limits();
        let params = limits.lease_params(self.ttl, self.attempt_timeout)?;
        limits.check_min_fencing_number(self.min_fencing_number)?;
        if self.policy.max_hold_time.is_some_and(|max| max < params.ttl()) {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!(
                    "a max_hold_time below the ttl of {} would cut the first lease short: take a smaller ttl",
                    Span(params.ttl())
                ),
            )
            .of("max_hold_time"));
        }
        if self.min_validity >= params.max_validity() {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!(
                    "a min_validity of {} can never be met: a lock with a ttl of {} is valid for less than {}",
                    Span(self.min_validity),
                    Span(params.ttl()),
                    Span(params.max_validity())
                ),
            )
            .of("min_validity"));
        }
        Ok((
            LockSpec {
                key,
                params,
                want_holder_ttl,
                min_fencing_number: self.min_fencing_number,
                previous_owner: None,
            },
            AttemptOptions { policy: self.policy, min_validity: self.min_validity },
        ))
    }
}
