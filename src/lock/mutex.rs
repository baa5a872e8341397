//! A lock to be: its name and its options.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use super::client::Redlock;
use super::error::{AcquireError, InvalidInput, ReleaseError, RunError};
use super::guard::{Guard, LockView};
use super::replies::ReleaseOutcome;
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::request::{Key, LockSpec};
use quorlock_proto::span::Span;

/// A mutual-exclusion lock by name: set it up, then [`acquire`](Self::acquire).
///
/// It promises that, while a majority of the nodes keep their data and clocks run at roughly the right speed, at
/// most one holder at a time has a valid guard for the name, in whatever process on whatever machine. It does *not*
/// stop a holder that was paused after its last look at the guard; no lock with a time limit can.
///
/// Not re-entrant: who holds it and acquires it again waits for themselves.
#[derive(Clone, Debug)]
#[must_use = "a lock is taken by `acquire`, `try_acquire` or `run`"]
pub struct Mutex {
    pub(super) client: Redlock,
    /// The key itself where there is no prefix.
    name: Key,
    ttl: Option<Duration>,
    min_fencing_number: u64,
    pub(super) wait_limit: Wait,
    attempt_timeout: Option<Duration>,
    policy: RenewalPolicy,
}

/// How long a caller keeps trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    For(Duration),
    Forever,
}

impl Mutex {
    pub(super) fn new(client: Redlock, name: &str) -> Self {
        Self {
            client,
            name: Key::new(name),
            ttl: None,
            min_fencing_number: 0,
            wait_limit: Wait::Forever,
            attempt_timeout: None,
            policy: RenewalPolicy { auto_renew: true, max_hold_time: None },
        }
    }

    /// How long the lock outlives a holder that dies: from 10 ms to the cluster's
    /// [longest ttl](super::RedlockBuilder::max_ttl) (plain: a year). A living holder's lock is renewed, so this is not how
    /// long work may take. Defaults to 10 s, or the longest ttl if that is less.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Asks for a fencing number above this: what the resource has seen already. At most 2^53 − 2^40. Of no use while
    /// the nodes remember, for then the number is larger anyway; the way on when they have forgotten, and the resource
    /// refuses the number they gave. One far ahead of the nodes' clocks is heeded for as long as fewer than 2q − N nodes lose
    /// it: no clock puts them above it again. The numbers of all names that are new to the nodes go on from there, too.
    /// Defaults to none.
    pub const fn min_fencing_number(mut self, seen: u64) -> Self {
        self.min_fencing_number = seen;
        self
    }

    /// How long [`acquire`](Self::acquire) keeps trying; unrelated to the ttl. Reaching the nodes counts as waiting
    /// too, but no wait is too short for one dial of each node. Zero tries once. Defaults to waiting for ever.
    pub const fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_limit = if timeout.is_zero() { Wait::No } else { Wait::For(timeout) };
        self
    }

    /// Makes [`acquire`](Self::acquire) try once, in the sense of [`try_acquire`](Self::try_acquire). Defaults to waiting for
    /// ever.
    pub const fn no_wait(mut self) -> Self {
        self.wait_limit = Wait::No;
        self
    }

    /// How long one attempt waits for the nodes' answers, at most a quarter of the ttl. Defaults to the smaller of
    /// ttl/8 and the client's node time-out.
    pub const fn attempt_timeout(mut self, patience: Duration) -> Self {
        self.attempt_timeout = Some(patience);
        self
    }

    /// Whether the lock is renewed from a third of its ttl on, for as long as the guard lives. Defaults to true.
    pub const fn auto_renew(mut self, auto_renew: bool) -> Self {
        self.policy.auto_renew = auto_renew;
        self
    }

    /// The longest the lock may be held, however often it is renewed: no deadline goes past it, and the lock is
    /// lost then. A guard against work that never ends. Defaults to no limit.
    pub const fn max_hold_time(mut self, time: Duration) -> Self {
        self.policy.max_hold_time = Some(time);
        self
    }

    /// Takes the lock, waiting for it as long as [`wait_timeout`](Self::wait_timeout) says.
    ///
    /// Tasks of one client are served first come, first served. Processes stand in a wait queue on one of the nodes, and the
    /// release of the lock notifies the first of them. What stands on a minority of the nodes, that one among them, may
    /// delay an attempt by a second or two, and never prevents it.
    ///
    /// # Errors
    ///
    /// When the wait is over, what stood in the way last: [`Contended`](AcquireError::Contended) by others, or
    /// [`NoQuorum`](AcquireError::NoQuorum). One patience and half a second after the wait at the latest:
    /// [`NoDriver`](AcquireError::NoDriver), if the runtime that the client was built in is not running. At once, when waiting cannot help: [`NodesExcluded`](AcquireError::NodesExcluded),
    /// [`InvalidInput`](AcquireError::InvalidInput), [`Closed`](AcquireError::Closed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any point leaves no lock behind: what the attempt may have taken is undone by the
    /// driver, and the place in the line goes to the next.
    pub async fn acquire(self) -> Result<Guard, AcquireError> {
        super::acquire::acquire(&self).await
    }

    /// Tries to take the lock, once: `None` if others have it, or if another task of this client has it or waits
    /// for it. Of the [`wait_timeout`](Self::wait_timeout) nothing is used. Where connections have just broken, as idle ones do when the
    /// servers close them, it waits for the next dial of these nodes, within its [`attempt_timeout`](Self::attempt_timeout).
    ///
    /// Several clients that try at the same instant may split the nodes, so that none of them gets a quorum. So a try that
    /// some node granted, and too many refused, is repeated up to twice, each time after a random pause of 5 to 30 ms. One of the
    /// clients then has the lock, almost always; it is not promised. A try that every node refuses, as the nodes do while the
    /// lock is held, is not repeated. Where a held lock does not stand on all nodes (it was taken a moment ago, or a node has
    /// just come back) a refusal takes up to two more attempts.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), but for [`Contended`](AcquireError::Contended).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(self) -> Result<Option<Guard>, AcquireError> {
        super::acquire::try_acquire(&self).await
    }

    /// Runs `work` under the lock: acquires, keeps renewing, **drops the work when the lock is lost**, and releases.
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::RunError> {
    /// redlock.mutex("nightly").run(|lock| async move {
    ///     while lock.is_valid() { /* one step of the work */ break }
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Acquire`] if the lock was not acquired, so that nothing was begun; [`RunError::Lost`] if it was
    /// lost before the work had ended, or if the release shows that others had taken or deleted its keys. A release that is not confirmed is no error: the work is done, and the keys
    /// expire.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work and releases the lock in the background.
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, RunError>
    where
        F: FnOnce(LockView) -> Fut,
        Fut: Future<Output = T>,
    {
        let guard = self.acquire().await?;
        let key: Arc<str> = guard.key().into();
        let outcome = match select(pin!(work(guard.view())), guard.lost()).await {
            Either::Left((value, _)) if guard.is_valid() => Some(value),
            Either::Left(_) | Either::Right(_) => None,
        };
        // Only what the answers show of the lock before the release is of interest. The rest is in the event log, and
        // nothing the caller does would change it.
        let was_lost = match guard.release().await {
            Ok(ReleaseOutcome { was_lost, .. }) | Err(ReleaseError::NoQuorum { was_lost, .. }) => was_lost,
            Err(_) => false,
        };
        outcome.filter(|_| !was_lost).ok_or(RunError::Lost { key })
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Checks everything once; `want_holder_ttl` attempts ask a refusing node for how long.
    pub(super) fn checked_spec(&self, curious: bool) -> Result<(LockSpec, RenewalPolicy), InvalidInput> {
        let key = self.client.key(&self.name)?;
        self.lock_spec(key.clone(), curious).map_err(|bad| bad.about(&key))
    }

    fn lock_spec(&self, key: Key, curious: bool) -> Result<(LockSpec, RenewalPolicy), InvalidInput> {
        let limits = self.client.limits();
        let params = limits.lease_params(self.ttl, self.attempt_timeout)?;
        limits.check_min_fencing_number(self.min_fencing_number)?;
        if self.policy.max_hold_time.is_some_and(|longest| longest < params.ttl()) {
            return Err(InvalidInput::new(format!(
                "a max_hold_time below the ttl of {} would cut the very first lease short: take a smaller ttl",
                Span(params.ttl())
            )));
        }
        Ok((
            LockSpec {
                key,
                params: params,
                want_holder_ttl: curious,
                min_fencing_number: self.min_fencing_number,
            },
            self.policy,
        ))
    }
}
