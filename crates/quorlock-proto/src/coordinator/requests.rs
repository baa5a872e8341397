//! How the coordinator uses the pipelines: requests, pending releases, and lost connections.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Action, Coordinator, Operation};
use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::lease::Lease;
use crate::pipeline::{ExpectedReply, InFlight, LinkState, PendingRelease};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OperationId, OwnerToken, Request, RequestKind};
use crate::single_request::SingleRequest;
use crate::survey::Survey;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

impl Coordinator {
    /// Whether any request is in flight.
    #[must_use]
    pub fn has_in_flight(&self) -> bool {
        self.pipelines.iter().any(|pipeline| !pipeline.in_flight.is_empty())
    }

    /// Sends a request to these nodes. For a disconnected node, the operation gets an implicit vote at
    /// once. If it expected a reply to an unsent request, all replies of the next connection would shift by
    /// one.
    pub(super) fn send(
        &mut self,
        request: Request,
        nodes: NodeSet,
        id: OperationId,
        round: u32,
        now: DualTimestamp,
    ) {
        let kind = request.kind;
        let up = self.up_of(nodes);
        for node in up.iter() {
            let pending = ExpectedReply::Vote { operation: id, kind, round };
            self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        }
        if !up.is_empty() {
            self.actions.push_back(Action::Send { request, nodes: up, as_text: false });
        }
        for node in nodes.without(up).iter() {
            if let Some(vote) = self.pipelines[node.index()].implicit_vote(now, self.limits.reply_timeout) {
                self.deliver_vote(id, node, kind, round, vote, now);
            }
        }
    }

    fn up_of(&self, nodes: NodeSet) -> NodeSet {
        nodes.iter().filter(|node| matches!(self.pipelines[node.index()].link, LinkState::Up)).collect()
    }

    /// Sends a release to these nodes, after its own SET. Where a node is not connected, the release is
    /// queued.
    pub(super) fn send_or_queue_release(
        &mut self,
        nodes: NodeSet,
        release: &PendingRelease,
        now: DualTimestamp,
    ) {
        let up = self.up_of(nodes);
        for node in up.iter() {
            let pending = ExpectedReply::PendingRelease(release.clone());
            self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        }
        if !up.is_empty() {
            self.actions.push_back(Action::Send {
                request: release_request(release),
                nodes: up,
                as_text: false,
            });
        }
        for node in nodes.without(up).iter() {
            let pipeline = &mut self.pipelines[node.index()];
            pipeline.queued_releases.push_back(release.clone());
            // The lease that waits for the release learns at once that this node will not reply now.
            if let Some(vote) = pipeline.implicit_vote(now, self.limits.reply_timeout)
                && let Some(Operation::Lease(lease)) =
                    self.operations.get_mut(&release.operation).map(|entry| &mut entry.operation)
            {
                lease.on_reply(node, RequestKind::Release, 0, vote, now);
            }
        }
    }

    pub(super) fn send_pending_release(
        &mut self,
        node: NodeId,
        release: PendingRelease,
        as_text: bool,
        now: DualTimestamp,
    ) {
        let request = release_request(&release);
        let nodes = [node].into_iter().collect();
        self.pipelines[node.index()]
            .in_flight
            .push_back(InFlight { sent: now, expected: ExpectedReply::PendingRelease(release) });
        self.actions.push_back(Action::Send { request, nodes, as_text });
    }

    pub(super) fn send_pending_releases(&mut self, node: NodeId, now: DualTimestamp) {
        let pipeline = &mut self.pipelines[node.index()];
        pipeline.retry_at = None;
        for release in core::mem::take(&mut pipeline.queued_releases) {
            if !release.useful_until.has_passed(now) {
                self.send_pending_release(node, release, false, now);
            }
        }
    }

    /// Sends a request again with the script's text, because the node has lost its scripts. Only while the
    /// reply matters: after a release with the same owner token, a late acquire would set the released key
    /// again.
    pub(super) fn retry_with_source(
        &mut self,
        node: NodeId,
        id: OperationId,
        kind: RequestKind,
        round: u32,
        now: DualTimestamp,
    ) -> bool {
        let request = match self.operations.get(&id).map(|entry| &entry.operation) {
            Some(Operation::Attempt(attempt_entry)) if attempt_entry.attempt.is_undecided() => {
                attempt_request(&attempt_entry.attempt, kind)
            }
            Some(Operation::Lease(lease)) if lease.is_held() && !kind.is_first_round() => {
                lease_request(lease, kind, lease.renewal_ttl())
            }
            Some(Operation::Survey(survey)) => survey_request(survey, kind, self.membership.is_some()),
            Some(Operation::SingleRequest(single)) => single_request(single, kind),
            _ => return false,
        };
        let pending = ExpectedReply::Vote { operation: id, kind, round };
        self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        self.actions.push_back(Action::Send { request, nodes: [node].into_iter().collect(), as_text: true });
        true
    }

    pub(super) fn disconnect(&mut self, node: NodeId, link: LinkState, now: DualTimestamp) {
        let pipeline = &mut self.pipelines[node.index()];
        pipeline.link = link;
        pipeline.retry_at = None;
        let mut without_reply = Vec::new();
        for in_flight in core::mem::take(&mut pipeline.in_flight) {
            match in_flight.expected {
                ExpectedReply::Vote { operation: id, kind, round } => without_reply.push((id, kind, round)),
                ExpectedReply::Marker { .. } => {}
                ExpectedReply::PendingRelease(release) => {
                    without_reply.push((release.operation, RequestKind::Release, 0));
                    pipeline.queued_releases.push_back(release);
                }
            }
        }
        if let Some(membership) = &mut self.membership {
            membership.on_down(node, now);
            self.apply_member_steps(now);
        }
        for (id, kind, round) in without_reply {
            self.deliver(id, node, kind, round, Vote::Unknown(ReplyFailure::ConnectionLost), now);
        }
    }

    /// A node's reply to a pending release.
    pub(super) fn on_release_reply(
        &mut self,
        node: NodeId,
        release: PendingRelease,
        vote: Vote,
        now: DualTimestamp,
    ) {
        let id = release.operation;
        match vote {
            Vote::Granted | Vote::NotHeld | Vote::HeldByOther { .. } => {}
            // A release may be repeated: it compares an owner token that no other attempt uses.
            Vote::Unknown(ReplyFailure::NoScript) => {
                return self.send_pending_release(node, release, true, now);
            }
            // The node replied, but did not release.
            _ => {
                let pause =
                    if matches!(vote, Vote::Excluded(_)) { RELEASE_RETRY_EXCLUDED } else { RELEASE_RETRY };
                let retry_at = now.plus(pause);
                let pipeline = &mut self.pipelines[node.index()];
                pipeline.queued_releases.push_back(release);
                pipeline.retry_at = Some(pipeline.retry_at.map_or(retry_at, |other| other.earlier(retry_at)));
            }
        }
        self.deliver(id, node, RequestKind::Release, 0, vote, now);
    }
}

fn release_request(release: &PendingRelease) -> Request {
    Request {
        kind: release.kind,
        key: release.key.clone(),
        token: release.token,
        ttl: Duration::ZERO,
        fence: None,
        previous_owner: None,
    }
}

pub(super) fn attempt_request(attempt: &Attempt, kind: RequestKind) -> Request {
    let spec = attempt.spec();
    let (key, ttl) = (spec.key.clone(), spec.params.ttl());
    let previous_owner = spec.previous_owner.clone().filter(|_| kind == RequestKind::Adopt);
    Request { kind, key, token: attempt.token(), ttl, fence: attempt.fence(kind), previous_owner }
}

pub(super) fn lease_request(lease: &Lease, kind: RequestKind, ttl: Duration) -> Request {
    let (key, token, fence) = (lease.key().clone(), lease.token(), lease.fence());
    Request { kind, key, token, ttl, fence, previous_owner: None }
}

pub(super) fn survey_request(survey: &Survey, kind: RequestKind, is_fenced: bool) -> Request {
    let fence = (is_fenced && kind.is_force_release()).then_some(Fence::Next);
    Request {
        kind,
        key: survey.key().clone(),
        token: NO_TOKEN,
        ttl: Duration::ZERO,
        fence,
        previous_owner: None,
    }
}

/// An enqueue carries in place of a ttl how long its caller has waited.
pub(super) fn single_request(single: &SingleRequest, kind: RequestKind) -> Request {
    Request {
        kind,
        key: single.key().clone(),
        token: NO_TOKEN,
        ttl: single.waited(),
        fence: None,
        previous_owner: None,
    }
}

/// The token of a request without an owner.
const NO_TOKEN: OwnerToken = OwnerToken::new(0);

/// How soon a release is sent again that failed with an error.
const RELEASE_RETRY: Duration = Duration::from_millis(250);
/// How soon a failed release is sent again to an excluded node. There an operator must first grant a permission.
const RELEASE_RETRY_EXCLUDED: Duration = Duration::from_secs(5);
