//! Sends requests to the nodes.

use super::Driver;
use crate::node::{ScriptForm, needs_marker};
use quorlock_proto::membership::NodeWrite;
use quorlock_proto::quorum::{NodeId, NodeSet};
use quorlock_proto::request::{Request, RequestKind};

impl Driver {
    pub(super) fn read_marker(&mut self, node: NodeId, write: Option<&NodeWrite>, as_text: bool) {
        let Some(connection) = self.links[node.index()].connection() else { return };
        let form = if as_text || connection.eval_only() { ScriptForm::Source } else { ScriptForm::Sha };
        self.encoder.encode_read_marker(write, form);
        connection.queue(self.encoder.bytes());
        self.unsent.insert(node);
    }

    /// Encodes the request once, and copies its bytes to every node that it goes to.
    pub(super) fn send(&mut self, mut request: Request, nodes: NodeSet, as_text: bool) {
        let mut encoded = None;
        let notifies = matches!(request.kind, RequestKind::ReleaseAndNotify | RequestKind::ReleaseLocal);
        let to_notify = if notifies { self.nodes_to_notify(&request.key) } else { nodes };
        let others = nodes.without(to_notify);
        for node in nodes.without(others).iter().chain(others.iter()) {
            // A node that went down after the decision: its release is pending already, and its vote is
            // unknown.
            let Some(connection) = self.links[node.index()].connection() else { continue };
            let form = if as_text || connection.eval_only() { ScriptForm::Source } else { ScriptForm::Sha };
            if !to_notify.contains(node) {
                // A node without the wait queue has no process to notify. That applies to all nodes that
                // follow.
                request.kind = RequestKind::Release;
            }
            if encoded != Some((form, request.kind)) {
                self.encoder.encode(&request, form);
                encoded = Some((form, request.kind));
            }
            connection.queue(self.encoder.bytes());
            self.unsent.insert(node);
            if needs_marker(&request) {
                connection.queue_rest(self.encoder.marker_args(node, self.coordinator.expected_marker(node)));
            }
            if connection.has_large_write_buffer() {
                // With thousands of renewals at once, the node starts with the first while the rest is
                // encoded into the same buffer.
                self.flush_node(node);
            }
        }
    }
}
