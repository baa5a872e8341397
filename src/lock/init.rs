//! Declaring a cluster.

use super::builder::RedlockBuilder;
use super::error::{ConnectError, InitError, NoAnswer};
use crate::driver::DriverCommand;
use quorlock_proto::membership::InitResult;

/// How a cluster was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitOutcome {
    /// The nodes are a cluster now, and vote at once.
    Initialized,
    /// They were a cluster on just these terms already. Nothing was changed.
    AlreadyInitialized,
}

impl RedlockBuilder {
    /// Declares that these nodes are a new cluster of locks, with nothing to forget, so that nobody has to wait for
    /// the end of their probation. To be done once, when the servers are new. Without it the first client that meets
    /// all nodes blank makes them a cluster too, and then waits for the [longest ttl](Self::max_ttl).
    ///
    /// Nodes that have all lost their data look new, and a declaration takes them for that, so it does not belong in
    /// what runs at every start of them: locks of before may still be held.
    ///
    /// With `force`, nodes that are a cluster already, on whatever terms, are made a new one. **Stop every client of
    /// that cluster first:** locks that are held meanwhile are not respected. It is the way to another number of nodes,
    /// quorum or longest ttl.
    ///
    /// # Errors
    ///
    /// An [`InitError`]; all nodes must be up and take writes, and without force all must be blank.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some nodes declared; declare again, then with force.
    pub async fn init(self, force: bool) -> Result<InitOutcome, InitError> {
        let client = self.fenced().read_only().connect_lazy()?;
        let nodes = client.node_status().await;
        let id = client.shared.orders.id();
        // Each node is looked at and written to, and its connection given up if it owes an answer for too long.
        let span = Some(client.shared.one_dial() + client.shared.reply_timeout * 16);
        let answer =
            client.shared.call(span, |reply| DriverCommand::Initialize { id, is_forced: force, reply }).await;
        match answer {
            Ok(InitResult::Fresh) => Ok(InitOutcome::Initialized),
            Ok(InitResult::Already) => Ok(InitOutcome::AlreadyInitialized),
            Ok(InitResult::NotBlank) => Err(InitError::AlreadyInitialized { nodes }),
            Ok(InitResult::Unreachable) => Err(InitError::Unreachable { nodes: client.known() }),
            Ok(InitResult::Rejected(votes)) => {
                Err(InitError::Rejected { nodes: client.known(), replies: client.replies(votes) })
            }
            Err(NoAnswer::Closed) => Err(ConnectError::Closed.into()),
            Err(NoAnswer::NoDriver(why)) => Err(ConnectError::NoDriver(why).into()),
        }
    }
}
