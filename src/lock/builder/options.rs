//! Sets the options of a client.

use std::sync::Arc;
use std::time::Duration;

use super::{Mode, Redials, RedlockBuilder};
use crate::observe::Event;

impl RedlockBuilder {
    /// The nodes' URLs: one to nine **independent** masters, the same list for every client of the same locks.
    /// Supported are `redis://user:password@host:port/database`, `rediss://` (TLS, feature `tls-rustls`), `unix:/path`,
    /// and `valkey://`. Defaults to an empty list, which is an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let nodes = ["redis://10.0.0.1", "valkey://10.0.0.2:6380/1", "unix:/run/redis.sock"];
    /// let builder = Redlock::builder().nodes(nodes);
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub fn nodes<I>(mut self, urls: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.nodes = urls.into_iter().map(Into::into).collect();
        self
    }

    /// The names under which the [roster](crate::safety) knows the nodes, in the order of [`nodes`](Self::nodes). Needed
    /// where clients reach one node under different addresses: through NAT, a tunnel or a proxy. Otherwise their lists
    /// differ, and only clients with the list of the lock cluster give a restarted node its seat. Defaults to the
    /// addresses: host, port and database.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let tunnels = ["redis://localhost:7001", "redis://localhost:7002", "redis://localhost:7003"];
    /// let builder = Redlock::builder().nodes(tunnels).node_names(["a", "b", "c"]);
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub fn node_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.node_names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// A prefix for every key on the nodes. With `redlock:`, locks also exclude the clients of other libraries that use
    /// that prefix. Defaults to no prefix: the key is the name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).key_prefix("billing:").connect().await?;
    /// let guard = redlock.mutex("invoice:7").acquire().await?;
    /// assert_eq!(guard.key(), &"billing:invoice:7");
    /// # Ok(()) }
    /// ```
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Whether locks have fencing tokens and nodes have probation. Defaults to [`Mode::Fenced`].
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::{Mode, Redlock};
    ///
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).mode(Mode::Plain);
    /// ```
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The longest ttl of any lock, and also how long a node that may have lost data casts no vote. It belongs to the
    /// lock cluster: all its clients need the same value. From 10 ms to an hour; has no effect for plain clients.
    /// Defaults to 30 s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).max_ttl(Duration::from_secs(60));
    /// assert_eq!(builder.check_lock("nightly", Some(Duration::from_secs(45)), 0), Ok(()));
    /// ```
    pub const fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = max_ttl;
        self
    }

    /// How long the nodes keep the largest fencing number of a name that is no longer locked. It belongs to the lock
    /// cluster: all its clients need the same value, so that none shortens it for the others. At least twice the [max
    /// TTL](Self::max_ttl), or the max TTL plus a second if that is more; at most a year. Plain clients ignore it.
    /// Defaults to an hour, or twice the max TTL if that is more.
    ///
    /// A node that has forgotten a number continues from its own clock, which has passed the number by then, or from
    /// the largest number that it ever gave ahead of its clock. So numbers grow, however clocks differ. A longer time
    /// protects only against a clock that is set back by more than half of it, before a client has read the node's
    /// marker again. During that time each name costs each node 120 bytes and the length of the name ([the
    /// total](crate::safety#what-it-costs-the-nodes)). [`forget`](crate::Redlock::forget) frees them early.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// // Names seldom come again, and the nodes have little memory.
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).fencing_retention(Duration::from_secs(120));
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub const fn fencing_retention(mut self, keep: Duration) -> Self {
        self.fencing_retention = Some(keep);
        self
    }

    /// Makes a client that does not initialize blank nodes as a lock cluster. Use it for tools that show the state of a
    /// lock cluster. It does start the probation of a node that may have lost data, as every client does, so that a
    /// node that is only observed votes again in time. The client can acquire locks once enough nodes vote. Defaults to
    /// a client that initializes blank nodes.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // A dashboard, which may be started before the servers are initialized.
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).read_only(true).connect_lazy()?;
    /// for node in redlock.node_status().await {
    ///     println!("{node}");
    /// }
    /// # Ok(()) }
    /// ```
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.initializes = !read_only;
        self
    }

    /// How many nodes make a lock. A larger quorum than the majority gains safety and costs availability. With a quorum
    /// of four of five nodes, two nodes may lose a lock early (forget it, or have a clock jump) without harm, but only
    /// one may be down. In general 2q − N − 1 nodes may do so. With a plain majority of an odd number, only nodes
    /// beyond q that [happen to hold](crate::Guard::spare_nodes) the lock are spare. Less than a majority is an error.
    /// Defaults to the majority.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// // Two nodes may lose their data at the same time, but only one may be down.
    /// let builder = Redlock::builder().nodes((1..=5).map(|node| format!("redis://10.0.0.{node}"))).quorum(4);
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub const fn quorum(mut self, need: usize) -> Self {
        self.quorum = Some(need);
        self
    }

    /// The maximum clock drift: how fast a node's clock and how slow this client's clock may run, together, as a
    /// fraction up to 0.2. Defaults to 0.01.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// // The clocks of these machines may differ in speed by up to 2 %.
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).max_clock_drift(0.02);
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub const fn max_clock_drift(mut self, share: f64) -> Self {
        self.max_clock_drift = share;
        self
    }

    /// How long the client waits for a node's reply. Defaults to 500 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// // Nodes on other continents.
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).reply_timeout(Duration::from_secs(1));
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub const fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// How long one dial of one node may take, handshake included. Defaults to 1 s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// // The name server is slow.
    /// let builder = Redlock::builder().nodes(["redis://redis-1.example"]).dial_timeout(Duration::from_secs(5));
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub const fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for a quorum of nodes. Defaults to 5 s.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // The servers may start a minute after this process.
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).connect_timeout(Duration::from_secs(60)).connect().await?;
    /// # Ok(()) }
    /// ```
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Makes [`connect`](Self::connect) return as soon as the first dials have failed on so many nodes that no quorum
    /// is left, instead of dialing them again until the connect timeout. Use it for callers that try once. Defaults to
    /// dialing again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // A script that must not wait if the servers are down.
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).dial_once().connect().await?;
    /// # Ok(()) }
    /// ```
    pub const fn dial_once(mut self) -> Self {
        self.redials = Redials::Never;
        self
    }

    /// The name that Redis shows in `CLIENT LIST`, without spaces. Defaults to `quorlock`.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).client_name("billing-worker");
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// Runs the driver on its own thread and runtime. Locks are then renewed and losses reported even while the
    /// caller's runtime is blocked, and locks can be acquired without a Tokio runtime, on any executor. Defaults to the
    /// caller's runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use futures::executor::block_on;
    /// use quorlock::Redlock;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).dedicated_thread(true).connect_lazy()?;
    /// // No Tokio runtime is needed here, and the lock is renewed while this thread is blocked.
    /// let guard = block_on(redlock.mutex("reindex").acquire())?;
    /// # Ok(()) }
    /// ```
    pub const fn dedicated_thread(mut self, dedicated: bool) -> Self {
        self.dedicated_thread = dedicated;
        self
    }

    /// Calls `handler` for every [event](Event), in addition to `tracing`. The driver task calls it, and for the
    /// client's own input the calling task: return quickly, never block, and never panic, because a panic would end
    /// that task. Defaults to no handler.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example() {
    /// let (sender, events) = std::sync::mpsc::channel();
    /// let builder = quorlock::Redlock::builder().on_event(move |event| drop(sender.send(event.clone())));
    /// # }
    /// ```
    pub fn on_event(mut self, handler: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(handler));
        self
    }
}
