//! Initializing a lock cluster.

use super::builder::RedlockBuilder;
use super::error::{ConnectError, InitError, InvalidInput, InvalidInputKind, NoReply};
use crate::driver::DriverCommand;
use quorlock_proto::membership::{InitMode, InitResult};

/// How an initialization ended.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{InitOutcome, Redlock};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// match Redlock::builder().nodes(nodes).initialize().await? {
///     InitOutcome::AlreadyInitialized => println!("nothing was changed"),
///     _ => println!("the nodes vote at once"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum InitOutcome {
    /// The nodes are a lock cluster now and vote at once.
    Initialized,
    /// They already were a lock cluster with the same list of nodes and the same settings. Nothing was changed.
    AlreadyInitialized,
}

impl RedlockBuilder {
    /// Initializes these nodes as a new lock cluster. Because new nodes have no locks to lose, they skip their
    /// probation and vote at once. Do this once, when the servers are new. Without it, the first client that finds all
    /// nodes blank also makes them a lock cluster, but then waits for the [max TTL](Self::max_ttl).
    ///
    /// Nodes that have all lost their data look like new ones, and initialization treats them as new. Therefore do not
    /// run it at every start of the servers: earlier locks may still be held.
    ///
    /// # Errors
    ///
    /// An [`InitError`]. All nodes must be up and accept writes, and all must be blank. A builder in plain mode is
    /// [`InvalidInput`](ConnectError::InvalidInput): plain clients have no lock cluster to initialize.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some nodes initialized. If so, use [`force_initialize`](Self::force_initialize).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), quorlock::error::InitError> {
    /// let urls = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// quorlock::Redlock::builder().nodes(urls).initialize().await?;
    /// # Ok(()) }
    /// ```
    pub async fn initialize(self) -> Result<InitOutcome, InitError> {
        self.initialize_nodes(InitMode::Blank).await
    }

    /// As [`initialize`](Self::initialize), also for nodes that already are a lock cluster, with whatever settings:
    /// they become a new one. **Stop every client of that lock cluster first:** locks that are held at that time are
    /// not respected. To change the nodes, the quorum or the max TTL while clients lock, use
    /// [`reconfigure`](Self::reconfigure).
    ///
    /// # Errors
    ///
    /// An [`InitError`]. All nodes must be up and accept writes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some nodes initialized. If so, call it again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // All clients are stopped. These servers belonged to another lock cluster.
    /// let nodes = (1..=5).map(|node| format!("redis://10.0.0.{node}"));
    /// Redlock::builder().nodes(nodes).force_initialize().await?;
    /// # Ok(()) }
    /// ```
    pub async fn force_initialize(self) -> Result<(), InitError> {
        self.initialize_nodes(InitMode::Forced).await.map(drop)
    }

    /// Founds a lock cluster, or recovers one, without the nodes that do not reply. Their seats are vacant until they
    /// reply. A node that may have lost data passes its probation, because the unreachable nodes may hold locks. Any
    /// client does the same by itself once no client has reached those nodes for the [max TTL](Self::max_ttl).
    ///
    /// Where a quorum of the members still remembers its lock cluster, nothing is changed:
    /// [`AlreadyInitialized`](InitOutcome::AlreadyInitialized).
    ///
    /// # Errors
    ///
    /// An [`InitError`]. A quorum of the nodes must be up and accept writes. A lock cluster with another list of nodes
    /// or other settings is [`InitError::AlreadyInitialized`], and stays as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the change unfinished. Any client finishes it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), quorlock::error::InitError> {
    /// // One of the three servers is not there yet.
    /// let urls = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// quorlock::Redlock::builder().nodes(urls).initialize_without_unreachable().await?;
    /// # Ok(()) }
    /// ```
    pub async fn initialize_without_unreachable(self) -> Result<InitOutcome, InitError> {
        self.initialize_nodes(InitMode::WithoutUnreachable).await
    }

    async fn initialize_nodes(self, mode: InitMode) -> Result<InitOutcome, InitError> {
        if self.is_plain() {
            return Err(ConnectError::from(
                InvalidInput::new(
                    InvalidInputKind::Conflict,
                    "plain mode has no lock cluster to initialize: leave the mode out",
                )
                .of("mode"),
            )
            .into());
        }
        let client = self.read_only(true).connect_lazy()?;
        let nodes = client.node_status().await;
        let id = client.shared.commands.id();
        // Each node's marker is read and written. A connection with a reply overdue for too long is closed.
        let span = Some(client.shared.first_dial_limit() + client.shared.reply_timeout * 16);
        let outcome = client.shared.call(span, |reply| DriverCommand::Initialize { id, mode, reply }).await;
        match outcome {
            Ok(InitResult::Initialized) => Ok(InitOutcome::Initialized),
            Ok(InitResult::AlreadyInitialized) => Ok(InitOutcome::AlreadyInitialized),
            Ok(InitResult::InOtherLockCluster) => Err(InitError::AlreadyInitialized { nodes }),
            Ok(InitResult::Unreachable) => Err(InitError::Unreachable { nodes: client.current_status() }),
            Ok(InitResult::Rejected(votes)) => {
                Err(InitError::Rejected { nodes: client.current_status(), replies: client.replies(votes) })
            }
            Err(NoReply::Closed) => Err(ConnectError::Closed.into()),
            Err(NoReply::NoDriver(reason)) => Err(ConnectError::NoDriver(reason).into()),
        }
    }
}
