//! Foresight: the steps that a reconfiguration makes from a roster on, if all nodes vote and reply.

use alloc::vec::Vec;

use super::reconfiguration::Reconfiguration;
use super::record::Record;
use super::server_view::ServerView;
use super::{Roster, SeatId};

/// A step that a reconfiguration will make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlannedStep {
    /// The number of nodes after it.
    pub nodes: usize,
    /// The quorum after it.
    pub quorum: usize,
    /// The nodes that vote right after it: all but a new one, which is on probation.
    pub voting: usize,
}

impl PlannedStep {
    /// Whether locks that are held are lost, and none can be acquired until the new node votes.
    #[must_use]
    pub const fn loses_locks(&self) -> bool {
        self.voting < self.quorum
    }
}

impl Reconfiguration {
    /// The steps from this roster to the goal; none if its list is not on the way.
    #[must_use]
    pub fn steps_from(&self, roster: &Roster) -> Vec<PlannedStep> {
        let mut steps = Vec::new();
        let (Some(mut nodes), mut current) = (self.nodes_of(roster.list), roster.clone()) else {
            return steps;
        };
        let servers: Vec<ServerView> = (0..self.count()).map(waiting).collect();
        // Each step adds or removes a node, or changes a setting.
        while steps.len() <= 2 * self.count() + 3 {
            let list = self.list(nodes);
            let Ok(next) = self.next(&current, &list, (&servers, nodes)) else { break };
            let Some(after) = self.nodes_of(next.list) else { break };
            let (quorum, voting) = (next.config.quorum().needed(), after.and(nodes).len());
            steps.push(PlannedStep { nodes: after.len(), quorum, voting });
            (current, nodes) = (next, after);
        }
        steps
    }
}

/// A new server that has drawn a seat.
fn waiting(index: usize) -> ServerView {
    let seat = SeatId(index as u64 + 1);
    let record = Record { seat, was_member: false, roster: None, promised: None, accepted: None };
    ServerView { is_up: true, is_fit: true, record: Some(record), ..ServerView::default() }
}
