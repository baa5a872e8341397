//! The servers of a world.

use std::collections::VecDeque;

use crate::marker::LockClusterConfig;
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::test_util::node::{Reply, SentRequest, SimulatedNode};
use crate::tests::world::MAX_TTL;
use crate::vote::Vote;

/// One simulated Redis master.
pub(crate) struct Server {
    pub(crate) node: SimulatedNode,
    /// While true, the node leaves requests unprocessed in their connections.
    pub(crate) hangs: bool,
    /// Replies to the next commands, which the node does not run.
    pub(crate) canned_replies: VecDeque<Vote>,
    /// Commands that can still arrive although their connection is lost, one queue per connection.
    pub(super) orphaned_commands: VecDeque<VecDeque<SentRequest>>,
}

impl Server {
    pub(super) fn new(index: usize, quorum: Quorum) -> Self {
        Self {
            node: SimulatedNode::new(index, LockClusterConfig::new(quorum, MAX_TTL)),
            hangs: false,
            canned_replies: VecDeque::new(),
            orphaned_commands: VecDeque::new(),
        }
    }

    pub(super) fn run(&mut self, command: &SentRequest, nanos: u64) -> Reply {
        match self.canned_replies.pop_front() {
            Some(reply) if command.request.kind == RequestKind::ReadMarker => Reply::Marker(Err(reply)),
            Some(reply) => Reply::Vote(reply, None),
            None => self.node.run(command, nanos),
        }
    }
}
