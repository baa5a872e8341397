//! The votes of nodes to which no request is sent.

use core::time::Duration;

use super::Limits;
use crate::membership::Membership;
use crate::pipeline::NodePipeline;
use crate::quorum::NodeId;
use crate::time::DualTimestamp;
use crate::vote::Vote;

/// The votes of nodes to which no request is sent: not connected, backlogged, excluded or on probation.
pub(super) struct ImplicitVotes<'a> {
    pipelines: &'a [NodePipeline],
    membership: Option<&'a Membership>,
    reply_timeout: Duration,
}

impl ImplicitVotes<'_> {
    pub(super) fn of(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        let unavailable = self.pipelines[node.index()].implicit_vote(now, self.reply_timeout);
        unavailable.or_else(|| self.membership.and_then(|membership| membership.implicit_vote(node, now)))
    }

    pub(super) fn for_holders(&self, node: NodeId, now: DualTimestamp) -> Option<Vote> {
        let unavailable = self.pipelines[node.index()].implicit_vote(now, self.reply_timeout);
        unavailable.or_else(|| {
            self.membership.and_then(|membership| membership.implicit_vote_for_holders(node, now))
        })
    }
}

/// Borrows only these fields, so that an operation can be changed at the same time.
pub(super) fn implicit_votes<'a>(
    pipelines: &'a [NodePipeline],
    membership: Option<&'a Membership>,
    limits: Limits,
) -> ImplicitVotes<'a> {
    ImplicitVotes { pipelines, membership, reply_timeout: limits.reply_timeout }
}
