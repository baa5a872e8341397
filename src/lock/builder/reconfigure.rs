//! The client that reconfigures a lock cluster: it dials the nodes of both lists.

use tokio::sync::watch;

use super::super::client::Redlock;
use super::super::error::{ConnectError, InvalidInput, InvalidInputKind};
use super::RedlockBuilder;
use crate::host::entropy;
use crate::node::Address;
use quorlock_proto::lease_params::Drift;
use quorlock_proto::membership::{Membership, ReconfigurationState};
use quorlock_proto::quorum::{NodeId, NodeSet, Quorum};
use quorlock_proto::roster::NodeList;
use quorlock_proto::roster::reconfiguration::Reconfiguration;
use std::time::Duration;

/// What the lock cluster is to become. What is `None` stays.
pub(in crate::lock) struct Goal {
    pub(in crate::lock) to: Vec<String>,
    pub(in crate::lock) quorum: Option<usize>,
    pub(in crate::lock) max_ttl: Option<Duration>,
}

/// A client, the nodes of the list after, and how far the reconfiguration is.
pub(in crate::lock) type Reconfigurer = (Redlock, NodeSet, watch::Receiver<Option<ReconfigurationState>>);

/// The nodes of both lists.
pub(in crate::lock) struct BothLists {
    /// The quorum of a client with the list before.
    quorum: Quorum,
    drift: Drift,
    all: Vec<Address>,
    from: NodeSet,
    to: NodeSet,
}

impl RedlockBuilder {
    /// Starts a client that reconfigures the lock cluster to these nodes, or with `is_dry_run` only looks at it.
    pub(in crate::lock) fn connect_to_reconfigure(
        self,
        goal: &Goal,
        is_dry_run: bool,
    ) -> Result<Reconfigurer, ConnectError> {
        let BothLists { quorum: old_quorum, drift, all, from, to } = self.checked_for(goal)?;
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let list = NodeList::new(&names);
        let reconfiguration = Reconfiguration::new(names, (from, to), goal.quorum, goal.max_ttl);
        let config = self.config(old_quorum);
        let client = entropy::nonce() as u64;
        let members = Membership::reconfiguring(config, drift, list, client, (reconfiguration, is_dry_run));
        let quorum = old_quorum.listing(all.len());
        let (client, progress) = self.launch((quorum, drift, all), Some(members))?;
        Ok((client, to, progress))
    }

    /// Checks the options and the goal, and merges the two lists.
    pub(in crate::lock) fn checked_for(&self, goal: &Goal) -> Result<BothLists, InvalidInput> {
        if self.is_plain() {
            return Err(conflict(
                "plain mode has no lock cluster to reconfigure: leave the mode out",
                "mode",
            ));
        }
        if self.node_names.is_some() {
            return Err(conflict("a reconfiguration names nodes by their addresses", "node_names"));
        }
        let (quorum, drift, before) = self.checked_without_tls()?;
        let after = self.checked_after(goal)?;
        // A node has one host, port and database. If only its scheme or user changes, the URL of the list after counts.
        let is_same = |a: &Address, b: &Address| a.to_string() == b.to_string();
        let is_in = |list: &[Address], node: &Address| list.iter().any(|it| is_same(it, node));
        let later = |node: &Address| after.iter().find(|it| is_same(it, node)).unwrap_or(node).clone();
        let mut all: Vec<Address> = before.iter().map(later).collect();
        all.extend(after.iter().filter(|node| !is_in(&before, node)).cloned());
        if all.len() > Quorum::MAX_LISTED {
            let message = format!(
                "{} different nodes before and after: take at most {} at once",
                all.len(),
                Quorum::MAX_LISTED
            );
            return Err(InvalidInput::new(InvalidInputKind::OutOfRange, message).of("to"));
        }
        // TLS may be used in one of the lists only.
        #[cfg(feature = "tls-rustls")]
        self.check_tls(&all)?;
        let among = |list: &[Address]| -> NodeSet {
            let nodes = (0..all.len()).filter(|index| is_in(list, &all[*index]));
            nodes.map(|index| NodeId(index as u8)).collect()
        };
        let (from, to) = (among(&before), among(&after));
        Ok(BothLists { quorum, drift, all, from, to })
    }

    fn checked_after(&self, goal: &Goal) -> Result<Vec<Address>, InvalidInput> {
        let mut after = self.clone().nodes(goal.to.clone());
        after.quorum = goal.quorum;
        after.fencing_retention = None;
        after.max_ttl = goal.max_ttl.unwrap_or(after.max_ttl);
        match after.checked_without_tls() {
            Ok((_, _, addresses)) => Ok(addresses),
            Err(invalid) if invalid.option() == Some("nodes") => Err(invalid.of("to")),
            Err(invalid) => Err(invalid),
        }
    }
}

fn conflict(message: &str, option: &'static str) -> InvalidInput {
    InvalidInput::new(InvalidInputKind::Conflict, message).of(option)
}
