//! The options of a lock.

use std::time::Duration;

use super::Mutex;

impl Mutex {
    /// How long the lock outlives a holder that dies: from 10 ms to the lock cluster's [max
    /// TTL](crate::RedlockBuilder::max_ttl) (plain mode: a year). A living holder's lock is renewed, so the
    /// ttl does not limit how long work may take. Defaults to [at most](Self::ttl_at_most) 10 s.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // If this process dies, another one can acquire the lock after five seconds.
    /// let guard = redlock.mutex("import").ttl(Duration::from_secs(5)).acquire().await?;
    /// # Ok(()) }
    /// ```
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        (self.ttl, self.is_ttl_shortened) = (Some(ttl), false);
        self
    }

    /// As [`ttl`](Self::ttl), and the max TTL if that is shorter: this client's, and at each attempt the one in force,
    /// which a reconfiguration may have changed. [`Guard::ttl`](crate::Guard::ttl) is the result.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("import").ttl_at_most(Duration::from_secs(60)).acquire().await?;
    /// println!("if this process dies, the lock is free after {:?}", guard.ttl());
    /// # Ok(()) }
    /// ```
    pub const fn ttl_at_most(mut self, ttl: Duration) -> Self {
        (self.ttl, self.is_ttl_shortened) = (Some(ttl), true);
        self
    }

    /// Requires a fencing number above this one, the largest that the protected resource has seen. At most
    /// 2^53 − 2^40. Normally not needed, because numbers always grow while the nodes keep their data. Use it
    /// to recover after the nodes have lost their data and the resource rejects the new, smaller numbers. A
    /// minimum far ahead of the nodes' clocks stays in effect while fewer than 2q − N nodes lose it, because
    /// no clock puts the nodes above it again. The numbers of all names that are new to the nodes then also
    /// continue from there. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn largest_number_in_table() -> u64 { 0 }
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // The nodes have lost their data, and the table rejects the new, smaller numbers.
    /// let seen = largest_number_in_table().await;
    /// let guard = redlock.mutex("account:7").min_fencing_number(seen).acquire().await?;
    /// assert!(guard.fencing_token().is_some_and(|token| token.number > seen));
    /// # Ok(()) }
    /// ```
    pub const fn min_fencing_number(mut self, seen: u64) -> Self {
        self.min_fencing_number = seen;
        self
    }

    /// How long [`acquire`](Self::acquire) and [`run`](Self::run) keep trying; unrelated to the ttl. Connecting also
    /// counts as waiting, but even the shortest wait allows for one dial of each node. Zero tries once. Defaults to
    /// waiting forever.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // An error after two seconds, if the lock is not free by then.
    /// let guard = redlock.mutex("cache:42").wait_timeout(Duration::from_secs(2)).acquire().await?;
    /// # Ok(()) }
    /// ```
    pub const fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = Some(timeout);
        self
    }

    /// The least validity of an acquired lock. An attempt whose replies took so long that less is left fails as
    /// [`TooLate`](crate::AcquireError::TooLate). It must be less than the ttl without the clock drift, which is 1 %
    /// and 2 ms by default. Defaults to zero.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // A payment takes up to four seconds and must not begin under a lock that may end sooner.
    /// let mutex = redlock.mutex("payment:42").ttl(Duration::from_secs(10)).min_validity(Duration::from_secs(4));
    /// let guard = mutex.acquire().await?;
    /// # Ok(()) }
    /// ```
    pub const fn min_validity(mut self, validity: Duration) -> Self {
        self.min_validity = validity;
        self
    }

    /// How long one attempt waits for the nodes' replies, at most a quarter of the ttl. Defaults to the
    /// smaller of ttl/8 and the client's reply timeout.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // The nodes are far away: each attempt gives them a second to reply.
    /// let mutex = redlock.mutex("nightly").ttl(Duration::from_secs(10)).attempt_timeout(Duration::from_secs(1));
    /// let guard = mutex.acquire().await?;
    /// # Ok(()) }
    /// ```
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Whether the lock is renewed from a third of its ttl on, while the guard lives. Defaults to true.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn upload() {}
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // The upload must end within ten seconds.
    /// let mutex = redlock.mutex("upload").ttl(Duration::from_secs(10)).auto_renew(false);
    /// let guard = mutex.acquire().await?;
    /// tokio::time::timeout(guard.remaining(), upload()).await?;
    /// # Ok(()) }
    /// ```
    pub const fn auto_renew(mut self, auto_renew: bool) -> Self {
        self.policy.auto_renew = auto_renew;
        self
    }

    /// The longest time that the lock may be held, however often it is renewed. No deadline goes past it, and
    /// the lock is lost then. It protects against work that never ends. Defaults to no limit.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::RunError;
    ///
    /// # async fn job() -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// // A job that hangs is dropped after an hour.
    /// let mutex = redlock.mutex("nightly").max_hold_time(Duration::from_secs(3600));
    /// if let Err(RunError::Lost { reason, .. }) = mutex.run(async |_| job().await).await {
    ///     eprintln!("not done: {reason}");
    /// }
    /// # Ok(()) }
    /// ```
    pub const fn max_hold_time(mut self, time: Duration) -> Self {
        self.policy.max_hold_time = Some(time);
        self
    }
}
