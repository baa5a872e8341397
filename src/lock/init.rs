//! Initializing a lock cluster.

use super::builder::RedlockBuilder;
use super::error::{ConnectError, InitError, NoReply};
use crate::driver::DriverCommand;
use quorlock_proto::membership::InitResult;

/// How an initialization ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitOutcome {
    /// The nodes are a lock cluster now and vote at once.
    Initialized,
    /// They already were a lock cluster with the same settings. Nothing was changed.
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
    /// With `force`, nodes that already are a lock cluster, with whatever settings, become a new one. **Stop every
    /// client of that lock cluster first:** locks that are held at that time are not respected. This is how to change
    /// the number of nodes, the quorum or the max TTL.
    ///
    /// # Errors
    ///
    /// An [`InitError`]. All nodes must be up and accept writes; without force, all must be blank.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some nodes initialized. If so, initialize again with force.
    pub async fn init(self, force: bool) -> Result<InitOutcome, InitError> {
        let client = self.fenced().read_only().connect_lazy()?;
        let nodes = client.node_status().await;
        let id = client.shared.commands.id();
        // Each node's marker is read and written. A connection with a reply overdue for too long is closed.
        let span = Some(client.shared.first_dial_limit() + client.shared.reply_timeout * 16);
        let outcome =
            client.shared.call(span, |reply| DriverCommand::Initialize { id, is_forced: force, reply }).await;
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
