//! `init`: the nodes are made a new lock cluster that votes at once.

use super::Membership;
use super::member::Member;
use crate::coordinator::OperationId;
use crate::marker::{ClusterId, Marker, MarkerReading};
use crate::quorum::{NodeId, NodeSet};
use crate::vote::{ReplyFailure, Vote};

/// How a declaration ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InitResult {
    /// The nodes are a new cluster, and vote at once.
    Initialized,
    /// They were a cluster on just these terms already; nothing was changed.
    AlreadyInitialized,
    /// Some node remembers something else; nothing was changed.
    NotBlank,
    /// Some node cannot be reached. Nothing was changed, or not all of it: declare again.
    Unreachable,
    /// Some node would not be told, or was told something else by others meanwhile: what each answered, a grant where it
    /// remembers the new cluster. Declare again.
    Rejected(Vec<Vote>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingInit {
    pub(super) operation: OperationId,
    pub(super) cluster: ClusterId,
    pub(super) is_forced: bool,
    /// Who has not said yet that it remembers the new cluster; nothing while nobody was told of it.
    pub(super) unconfirmed: Option<NodeSet>,
    /// What each answered.
    pub(super) replies: Vec<Vote>,
}

impl Membership {
    /// Makes the nodes a new cluster that votes at once. Without force only if all are blank. Says `InitResult` in its
    /// time. Poll next.
    pub fn initialize(&mut self, of: OperationId, cluster: ClusterId, is_forced: bool) {
        if self.pending_init.is_some()
            || !self.members.iter().all(|member| member.is_up && member.reading.is_some())
        {
            self.init_result = Some((of, InitResult::Unreachable));
            return;
        }
        let answers = vec![Vote::Unknown(ReplyFailure::Timeout); self.members.len()];
        self.pending_init =
            Some(PendingInit { operation: of, cluster, is_forced, unconfirmed: None, replies: answers });
        self.begin_init();
    }

    /// Tells the nodes of the new cluster, once none is being asked anything whose answer could still change what
    /// there is to replace.
    pub(super) fn begin_init(&mut self) {
        let is_settled = !self.members.iter().any(Member::is_read_pending);
        let Some(PendingInit { cluster, is_forced, unconfirmed: None, .. }) = self.pending_init else {
            return;
        };
        if !is_settled {
            return;
        }
        if !is_forced && !self.reads().all(|reading| reading.marker.is_none()) {
            let is_same = self.is_one_cluster();
            self.end_init(if is_same { InitResult::AlreadyInitialized } else { InitResult::NotBlank });
            return;
        }
        let identity = Marker::identity(cluster, self.config);
        for member in &mut self.members {
            member.request_write(identity.clone(), self.config.max_ttl());
        }
        if let Some(declaring) = &mut self.pending_init {
            declaring.unconfirmed = Some(self.config.quorum().all());
        }
    }

    pub(super) fn end_init(&mut self, declared: InitResult) {
        if let Some(declaring) = self.pending_init.take() {
            self.init_result = Some((declaring.operation, declared));
        }
    }

    /// Whether all nodes remember one cluster, and our charter.
    fn is_one_cluster(&self) -> bool {
        let markers = self.reads().map(|reading| reading.marker.as_deref().and_then(Marker::parse));
        let clusters =
            markers.map(|marker| marker.filter(|it| it.config == self.config).map(|it| it.cluster));
        let clusters: Vec<Option<ClusterId>> = clusters.collect();
        clusters.iter().all(|cluster| cluster.is_some() && *cluster == clusters[0])
    }

    /// All are heard before the declaration ends, so that what each is to be mended is told at once.
    pub(super) fn on_init_reply(&mut self, node: NodeId, reading: &Result<MarkerReading, Vote>) {
        let Some(PendingInit { cluster, unconfirmed: Some(waiting), replies: answers, .. }) =
            &mut self.pending_init
        else {
            return;
        };
        let is_it = |it: Marker| (it.cluster, it.config) == (*cluster, self.config);
        answers[node.index()] = match reading {
            Ok(reading) if reading.marker.as_deref().and_then(Marker::parse).is_some_and(is_it) => {
                Vote::Granted
            }
            Ok(_) => Vote::Unknown(ReplyFailure::MarkerMismatch),
            Err(refusal) => refusal.clone(),
        };
        waiting.remove(node);
        if !waiting.is_empty() {
            return;
        }
        let answers = std::mem::take(answers);
        let is_done = answers.iter().all(Vote::is_grant);
        self.end_init(if is_done { InitResult::Initialized } else { InitResult::Rejected(answers) });
    }
}
