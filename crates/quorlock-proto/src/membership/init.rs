//! `init`: makes the nodes a new lock cluster that votes at once.

use super::Membership;
use super::member::Member;
use crate::marker::{ClusterId, Marker, MarkerReading};
use crate::quorum::{NodeId, NodeSet};
use crate::request::OperationId;
use crate::vote::{ReplyFailure, Vote};
use alloc::vec;
use alloc::vec::Vec;

/// The result of an `init`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InitResult {
    /// The nodes are a new lock cluster, and vote at once.
    Initialized,
    /// They were a lock cluster with the same settings already; nothing was changed.
    AlreadyInitialized,
    /// A node has another marker; nothing was changed.
    InOtherLockCluster,
    /// A node is not connected. Nothing was changed, or only some nodes: run `init` again.
    Unreachable,
    /// A node rejected the marker, or another client wrote a different one meanwhile: run `init` again.
    /// Contains every node's vote, a grant where the new marker is stored.
    Rejected(Vec<Vote>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingInit {
    pub(super) operation: OperationId,
    pub(super) cluster: ClusterId,
    pub(super) is_forced: bool,
    /// The nodes that have not replied to the write; `None` before the writes are sent.
    pub(super) unconfirmed: Option<NodeSet>,
    /// The nodes' votes.
    pub(super) replies: Vec<Vote>,
}

impl Membership {
    /// Makes the nodes a new lock cluster that votes at once; without force only if all are blank. Ends with
    /// [`MemberStep::InitDone`](super::MemberStep::InitDone). Poll next.
    pub fn initialize(&mut self, operation: OperationId, cluster: ClusterId, is_forced: bool) {
        if self.pending_init.is_some()
            || !self.members.iter().all(|member| member.is_up && member.reading.is_some())
        {
            self.init_result = Some((operation, InitResult::Unreachable));
            return;
        }
        let replies = vec![Vote::Unknown(ReplyFailure::Timeout); self.members.len()];
        self.pending_init = Some(PendingInit { operation, cluster, is_forced, unconfirmed: None, replies });
        self.begin_init();
    }

    /// Writes the new markers, once no reading is pending: a pending one could still change the marker to
    /// replace.
    pub(super) fn begin_init(&mut self) {
        let no_read_pending = !self.members.iter().any(Member::is_read_pending);
        let Some(PendingInit { cluster, is_forced, unconfirmed: None, .. }) = self.pending_init else {
            return;
        };
        if !no_read_pending {
            return;
        }
        if !is_forced && !self.readings().all(|reading| reading.marker.is_none()) {
            let is_same = self.is_one_cluster();
            self.end_init(if is_same {
                InitResult::AlreadyInitialized
            } else {
                InitResult::InOtherLockCluster
            });
            return;
        }
        let identity = Marker::identity(cluster, self.config);
        for member in &mut self.members {
            member.request_write(identity.clone(), self.config.max_ttl());
        }
        if let Some(init) = &mut self.pending_init {
            init.unconfirmed = Some(self.config.quorum().all());
        }
    }

    pub(super) fn end_init(&mut self, result: InitResult) {
        if let Some(init) = self.pending_init.take() {
            self.init_result = Some((init.operation, result));
        }
    }

    /// Whether all markers have the same cluster id and the client's settings.
    fn is_one_cluster(&self) -> bool {
        let markers = self.readings().map(|reading| reading.marker.as_deref().and_then(Marker::parse));
        let clusters =
            markers.map(|marker| marker.filter(|it| it.config == self.config).map(|it| it.cluster));
        let clusters: Vec<Option<ClusterId>> = clusters.collect();
        clusters.iter().all(|cluster| cluster.is_some() && *cluster == clusters[0])
    }

    /// Records a node's reply to the write. The `init` ends after all replies, so that it reports all
    /// failures at once.
    pub(super) fn on_init_reply(&mut self, node: NodeId, reading: &Result<MarkerReading, Vote>) {
        let Some(PendingInit { cluster, unconfirmed: Some(unconfirmed), replies, .. }) =
            &mut self.pending_init
        else {
            return;
        };
        let is_new_cluster = |it: Marker| (it.cluster, it.config) == (*cluster, self.config);
        replies[node.index()] = match reading {
            Ok(reading) if reading.marker.as_deref().and_then(Marker::parse).is_some_and(is_new_cluster) => {
                Vote::Granted
            }
            Ok(_) => Vote::Unknown(ReplyFailure::MarkerMismatch),
            Err(vote) => vote.clone(),
        };
        unconfirmed.remove(node);
        if !unconfirmed.is_empty() {
            return;
        }
        let replies = core::mem::take(replies);
        let is_done = replies.iter().all(Vote::is_grant);
        self.end_init(if is_done { InitResult::Initialized } else { InitResult::Rejected(replies) });
    }
}
