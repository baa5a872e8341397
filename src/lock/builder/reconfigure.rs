//! The client that reconfigures a lock cluster: it dials the nodes of both lists.

use tokio::sync::watch;

use super::super::client::Redlock;
use super::super::error::{ConnectError, InvalidInput, InvalidInputKind};
use super::RedlockBuilder;
use crate::host::entropy;
use crate::node::Address;
use quorlock_proto::membership::{Membership, ReconfigurationState};
use quorlock_proto::quorum::{NodeId, NodeSet, Quorum};
use quorlock_proto::roster::NodeList;
use quorlock_proto::roster::reconfiguration::Reconfiguration;
use std::time::Duration;

/// A client, the nodes of the list after, and how far the reconfiguration is.
pub(in crate::lock) type Reconfigurer = (Redlock, NodeSet, watch::Receiver<Option<ReconfigurationState>>);

impl RedlockBuilder {
    /// Starts a client that reconfigures the lock cluster to these nodes, or with `is_dry_run` only looks at it.
    pub(in crate::lock) fn connect_to_reconfigure(
        self,
        to: Vec<String>,
        quorum: Option<usize>,
        max_ttl: Option<Duration>,
        is_dry_run: bool,
    ) -> Result<Reconfigurer, ConnectError> {
        if self.is_plain() {
            return Err(conflict(
                "plain mode has no lock cluster to reconfigure: leave the mode out",
                "mode",
            ));
        }
        if self.node_names.is_some() {
            return Err(conflict("a reconfiguration names nodes by their addresses", "node_names"));
        }
        let (old_quorum, drift, before) = self.checked()?;
        let mut after = self.clone().nodes(to);
        after.quorum = quorum;
        after.fencing_retention = None;
        after.max_ttl = max_ttl.unwrap_or(after.max_ttl);
        let (_, _, after) = after.checked()?;
        let mut all = before.clone();
        all.extend(after.iter().filter(|node| !before.contains(node)).cloned());
        if all.len() > Quorum::MAX_LISTED {
            let message = format!(
                "{} different nodes before and after: take at most {} at once",
                all.len(),
                Quorum::MAX_LISTED
            );
            return Err(InvalidInput::new(InvalidInputKind::OutOfRange, message).of("nodes").into());
        }
        let among = |list: &[Address]| -> NodeSet {
            let is_in = |index: &usize| list.contains(&all[*index]);
            (0..all.len()).filter(is_in).map(|index| NodeId(index as u8)).collect()
        };
        let (from, to) = (among(&before), among(&after));
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let list = NodeList::new(&names);
        let reconfiguration = Reconfiguration::new(names, (from, to), quorum, max_ttl);
        let config = self.config(old_quorum);
        let client = entropy::nonce() as u64;
        let members = Membership::reconfiguring(config, drift, list, client, (reconfiguration, is_dry_run));
        let quorum = old_quorum.listing(all.len());
        let (client, progress) = self.launch((quorum, drift, all), Some(members))?;
        Ok((client, to, progress))
    }
}

fn conflict(message: &str, option: &'static str) -> ConnectError {
    InvalidInput::new(InvalidInputKind::Conflict, message).of(option).into()
}
