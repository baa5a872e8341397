//! Clients, spare servers, and a client that reconfigures the lock cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use super::server::Server;
use super::{Client, Connection, MAX_TTL, REDIAL_AFTER, REPLY_TIMEOUT, World};
use crate::coordinator::{Coordinator, Limits};
use crate::lease_params::Drift;
use crate::marker::LockClusterConfig;
use crate::membership::Membership;
use crate::quorum::{NodeId, NodeSet};
use crate::roster::reconfiguration::Reconfiguration;
use crate::test_util::founding::node_list;

impl Client {
    /// A client whose list has this many nodes, without connections.
    pub(super) fn new(coordinator: Coordinator, is_fenced: bool, listed: usize) -> Self {
        Self {
            coordinator,
            listed,
            progress: None,
            is_fenced,
            connections: (0..listed).map(|_| Connection::default()).collect(),
            events: Vec::new(),
            leases: BTreeMap::new(),
            redials: Vec::new(),
            exclusions: Vec::new(),
            statuses: vec![None; listed],
            status_changes: 0,
            rosters: Vec::new(),
            clock_anomalies: Vec::new(),
            wall_offset_nanos: 0,
            is_paused: false,
        }
    }
}

impl World {
    /// Adds blank servers that are in no client's list.
    pub(crate) fn add_spares(&mut self, spares: usize) {
        for index in self.servers.len()..self.servers.len() + spares {
            self.servers.push(Server::new(index, self.quorum));
            self.addresses.push(index);
            for client in &mut self.clients {
                client.connections.push(Connection::default());
                client.statuses.push(None);
            }
        }
    }

    /// Adds a client that reconfigures the lock cluster to these nodes, or only looks at it. Returns its index.
    pub(crate) fn reconfigure(
        &mut self,
        to: &[u8],
        (quorum, max_ttl): (Option<usize>, Option<Duration>),
        is_dry_run: bool,
    ) -> usize {
        let all = self.nodes();
        let names = (0..all).map(|node| format!("node {node}")).collect();
        let from: NodeSet = self.quorum.all();
        let to = to.iter().copied().map(NodeId).collect();
        let reconfiguration = Reconfiguration::new(names, (from, to), quorum, max_ttl);
        let config = LockClusterConfig::new(self.quorum, MAX_TTL);
        let drift = Drift::new(0.01).expect("a valid drift");
        self.last_client_id += 1;
        let members = Membership::reconfiguring(
            config,
            drift,
            node_list(all),
            self.last_client_id,
            (reconfiguration, is_dry_run),
        );
        let limits = Limits { reply_timeout: REPLY_TIMEOUT, redial_after: REDIAL_AFTER };
        let coordinator = Coordinator::fenced(self.quorum.listing(all), limits, members);
        self.clients.push(Client::new(coordinator, true, all));
        let client = self.clients.len() - 1;
        (0..all).for_each(|node| self.connect(client, node));
        self.wake(client);
        client
    }
}
