//! A named lock and its options, before it is acquired.

mod check;
mod options;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use super::acquire::{acquire, try_acquire};
use super::client::Redlock;
use super::error::{AcquireError, ReleaseError, RunError};
use super::guard::Guard;
use super::lock_view::LockView;
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::request::Key as LockName;

/// A mutual-exclusion lock by name. Set its options, then call [`acquire`](Self::acquire).
///
/// At most one holder at a time has a valid guard for the name, in any process on any machine. This holds
/// while a majority of the nodes keep their data and clocks run at roughly the right speed. It does *not*
/// stop a holder that is paused after its last check of the guard; no lock with a time limit can.
///
/// Not re-entrant: a task that holds the lock and acquires it again waits for itself.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let mutex = redlock.mutex("nightly").ttl(Duration::from_secs(20)).max_hold_time(Duration::from_secs(3600));
/// let guard = mutex.acquire().await?;
/// // … only this task holds the lock …
/// guard.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a lock is acquired by `acquire`, `try_acquire` or `run`"]
pub struct Mutex {
    pub(super) client: Redlock,
    /// The key itself if there is no prefix.
    pub(super) name: LockName,
    pub(super) ttl: Option<Duration>,
    /// Whether the ttl is shortened to the max ttl in force.
    is_ttl_shortened: bool,
    min_fencing_number: u64,
    pub(super) wait_timeout: Option<Duration>,
    min_validity: Duration,
    attempt_timeout: Option<Duration>,
    policy: RenewalPolicy,
}

impl Redlock {
    /// Returns a lock of this name. Set its options, then acquire it.
    ///
    /// The name is the key on every node, verbatim (behind the client's key prefix). Any bytes are valid, except an
    /// empty name, one that starts with `quorlock:` (reserved for this library), and one of more than 65,536 bytes,
    /// prefix included.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let order = 42;
    /// let guard = redlock.mutex(format!("orders:{order}")).ttl(Duration::from_secs(5)).acquire().await?;
    /// # Ok(()) }
    /// ```
    pub fn mutex(&self, name: impl AsRef<[u8]>) -> Mutex {
        Mutex::new(self.clone(), name.as_ref())
    }
}

impl Mutex {
    pub(super) fn new(client: Redlock, name: &[u8]) -> Self {
        Self {
            client,
            name: LockName::new(name),
            ttl: None,
            is_ttl_shortened: true,
            min_fencing_number: 0,
            wait_timeout: None,
            min_validity: Duration::ZERO,
            attempt_timeout: None,
            policy: RenewalPolicy { auto_renew: true, max_hold_time: None },
        }
    }

    /// Acquires the lock. Waits for it as long as [`wait_timeout`](Self::wait_timeout) says.
    ///
    /// Tasks of one client are served in the order they came. Processes wait in a wait queue on one of the
    /// nodes, and the release of the lock notifies the first of them. A failed minority of the nodes, even if
    /// it includes that node, may delay an attempt by a second or two, but never prevents it.
    ///
    /// # Errors
    ///
    /// When the wait is over, the last obstacle: [`Contended`](AcquireError::Contended) by other clients,
    /// [`NoQuorum`](AcquireError::NoQuorum), [`OnProbation`](AcquireError::OnProbation) (new servers that were not
    /// initialized, for example) or [`TooLate`](AcquireError::TooLate). At the latest one attempt timeout and half a second after the wait:
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
        let (spec, options) = self.checked_spec()?;
        acquire(&self.client, &spec, options, self.wait_timeout).await
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
        let (spec, options) = self.checked_spec()?;
        match acquire(&self.client, &spec, options, Some(wait)).await {
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
        let (spec, options) = self.checked_spec()?;
        try_acquire(&self.client, &spec, options).await
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
    ///     // Send the token with every write.
    ///     println!("token: {:?}", lock.fencing_token());
    ///     std::fs::write("report.txt", "…")?;
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

    /// The name of the lock, without the key prefix.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let mutex = redlock.mutex("orders:42");
    /// println!("waiting for {}", mutex.name());
    /// let guard = mutex.acquire().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn name(&self) -> &LockName {
        &self.name
    }
}
