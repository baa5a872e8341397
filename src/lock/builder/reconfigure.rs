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
    /// The names of these nodes.
    pub(in crate::lock) to_names: Option<Vec<String>>,
    pub(in crate::lock) quorum: Option<usize>,
    pub(in crate::lock) max_ttl: Option<Duration>,
}

/// A client that reconfigures.
pub(in crate::lock) struct Reconfigurer {
    pub(in crate::lock) client: Redlock,
    /// The nodes of the list before.
    pub(in crate::lock) from: NodeSet,
    /// The nodes of the list after.
    pub(in crate::lock) to: NodeSet,
    pub(in crate::lock) reconfiguration: Reconfiguration,
    /// How far it is.
    pub(in crate::lock) progress: watch::Receiver<Option<ReconfigurationState>>,
}

/// The nodes of both lists.
pub(in crate::lock) struct BothLists {
    /// The quorum of a client with the list before.
    quorum: Quorum,
    drift: Drift,
    all: Vec<Address>,
    /// The name of each, by which it is the same node in both lists.
    names: Vec<String>,
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
        let BothLists { quorum: old_quorum, drift, all, names, from, to } = self.checked_for(goal)?;
        let list = NodeList::new(&names);
        let reconfiguration = Reconfiguration::new(names, (from, to), goal.quorum, goal.max_ttl);
        let config = self.config(old_quorum);
        let client = entropy::nonce() as u64;
        let goal = (reconfiguration.clone(), is_dry_run);
        let members = Membership::reconfiguring(config, drift, list, client, goal);
        let quorum = old_quorum.listing(all.len());
        let (client, progress) = self.launch((quorum, drift, all), Some(members))?;
        Ok(Reconfigurer { client, from, to, reconfiguration, progress })
    }

    /// Checks the options and the goal, and merges the two lists.
    pub(in crate::lock) fn checked_for(&self, goal: &Goal) -> Result<BothLists, InvalidInput> {
        if self.is_plain() {
            return Err(conflict(
                "plain mode has no lock cluster to reconfigure: leave the mode out",
                "mode",
            ));
        }
        let (quorum, drift, before) = self.checked_without_tls()?;
        let before = named(before, self.node_names.as_deref());
        let after = self.checked_after(goal, &before)?;
        // The URL of a node may change, as with TLS. Then the later one counts.
        let find = |list: &[Named], name: &str| list.iter().position(|(it, _)| it == name);
        let mut both = before.clone();
        for (name, address) in &after {
            match find(&before, name) {
                Some(index) => both[index].1 = address.clone(),
                None => both.push((name.clone(), address.clone())),
            }
        }
        let (names, all): (Vec<String>, Vec<Address>) = both.into_iter().unzip();
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
        let among = |list: &[Named]| -> NodeSet {
            let nodes = (0..names.len()).filter(|index| find(list, &names[*index]).is_some());
            nodes.map(|index| NodeId(index as u8)).collect()
        };
        let (from, to) = (among(&before), among(&after));
        Ok(BothLists { quorum, drift, all, names, from, to })
    }

    fn checked_after(&self, goal: &Goal, before: &[Named]) -> Result<Vec<Named>, InvalidInput> {
        let mut after = self.clone().nodes(goal.to.clone());
        after.node_names.clone_from(&goal.to_names);
        after.quorum = goal.quorum;
        after.fencing_retention = None;
        after.max_ttl = goal.max_ttl.unwrap_or(after.max_ttl);
        let (_, _, addresses) = after.checked_without_tls().map_err(|invalid| match invalid.option() {
            Some("nodes") => invalid.of("to"),
            Some("node_names") => invalid.of("to_names"),
            _ => invalid,
        })?;
        let mut after = named(addresses, goal.to_names.as_deref());
        for (name, address) in &mut after {
            let address = address.to_string();
            match before.iter().find(|(_, it)| it.to_string() == address) {
                Some((old, _)) if goal.to_names.is_none() => name.clone_from(old),
                Some((old, _)) if old != name => {
                    let message = format!(
                        "{address} has one name before and another after: a reconfiguration keeps names, so give also the \
                         names before (node_names)"
                    );
                    return Err(conflict(&message, "to_names"));
                }
                None if goal.to_names.is_none() && self.node_names.is_some() => {
                    let message = format!(
                        "{address} is new, and the nodes before have names: give the nodes after names, too"
                    );
                    return Err(conflict(&message, "to_names"));
                }
                _ => {}
            }
        }
        Ok(after)
    }
}

/// The name of a node, and its address.
type Named = (String, Address);

/// The nodes with the names that the user gave, or with their addresses as names.
fn named(addresses: Vec<Address>, names: Option<&[String]>) -> Vec<Named> {
    let name = |(index, address): (usize, Address)| {
        (names.map_or_else(|| address.to_string(), |names| names[index].clone()), address)
    };
    addresses.into_iter().enumerate().map(name).collect()
}

fn conflict(message: &str, option: &'static str) -> InvalidInput {
    InvalidInput::new(InvalidInputKind::Conflict, message).of(option)
}
