//! The clients: their lists, what they may do, and how far a reconfiguration is.

use super::state::State;
use super::{Nodes, OTHER_LIST, RosterModel};
use crate::quorum::{NodeId, NodeSet};
use crate::roster::NodeList;
use crate::roster::proposer::Proposer;
use crate::roster::reconfiguration::Reconfiguration;
use crate::roster::server_view::Permissions;

impl RosterModel {
    /// All lists name the same nodes, but the other one for the last.
    pub(super) fn list(&self, nodes: Nodes) -> NodeList {
        let all = self.nodes + self.spares;
        let mut names: Vec<String> = (0..all).map(|it| format!("node {it}")).collect();
        if let Nodes::These(nodes) = nodes {
            return NodeList::of(&names, nodes.iter().copied().map(NodeId).collect());
        }
        if nodes == OTHER_LIST {
            names[self.nodes - 1] = format!("node {all}");
        }
        NodeList::of(&names, self.listed())
    }

    /// Whether a client with this list connects to the node.
    pub(super) fn sees(&self, nodes: Nodes, node: usize) -> bool {
        match nodes {
            Nodes::Listed | Nodes::Other => node < self.nodes,
            Nodes::These(nodes) => nodes.contains(&(node as u8)),
            Nodes::Reconfigures(..) => true,
        }
    }

    pub(super) fn listed(&self) -> NodeSet {
        (0..self.nodes as u8).map(NodeId).collect()
    }

    pub(super) fn proposer(&self, client: u64, nodes: Nodes) -> Proposer {
        let proposer = Proposer::new(client, self.list(nodes), self.config());
        let Nodes::Reconfigures(to, quorum) = nodes else { return proposer };
        let names = (0..self.nodes + self.spares).map(|it| format!("node {it}")).collect();
        let to = to.iter().copied().map(NodeId).collect();
        proposer.with_reconfiguration(Reconfiguration::new(names, (self.listed(), to), quorum, None))
    }

    pub(super) fn permissions(&self, state: &State, client: usize) -> Permissions {
        // A node counts as absent while it is down; how long does not matter, as it casts no vote meanwhile.
        let is_down = |node: &usize| !state.servers[usize::from(state.addresses[*node])].is_up;
        let nodes = 0..self.nodes + self.spares;
        let absent: NodeSet = nodes.filter(is_down).map(|node| NodeId(node as u8)).collect();
        let (voting, is_settled) = self.voting(state, client);
        Permissions {
            now_millis: 0,
            absent,
            to_vacate: absent,
            may_found: true,
            leaves_out_unreachable: false,
            voting,
            is_settled,
            may_begin: true,
            random: 7,
        }
    }
}
