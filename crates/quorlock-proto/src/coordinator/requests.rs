//! The board's way to its lanes: what is sent, what is owed, and what becomes of it when a link goes.

use std::time::Duration;

use super::{Action, Coordinator, Operation, OperationId};
use crate::attempt::Attempt;
use crate::fence::Fence;
use crate::lease::Lease;
use crate::pipeline::{ExpectedReply, InFlight, LinkState, PendingRelease};
use crate::quorum::{NodeId, NodeSet};
use crate::request::{OwnerToken, Request, RequestKind};
use crate::survey::Survey;
use crate::time::DualTimestamp;
use crate::vote::{ReplyFailure, Vote};

impl Coordinator {
    /// Whether any node owes an answer.
    #[must_use]
    pub fn has_in_flight(&self) -> bool {
        self.pipelines.iter().any(|pipeline| !pipeline.in_flight.is_empty())
    }

    /// Puts a question to these nodes. For one that went away meanwhile its machine hears so at once: an answer that
    /// nobody was asked for would be taken from the next connection, and every answer there be taken for another.
    pub(super) fn send(
        &mut self,
        request: Request,
        nodes: NodeSet,
        of: OperationId,
        round: u32,
        now: DualTimestamp,
    ) {
        let phase = request.kind;
        let up = self.up_of(nodes);
        for node in up.iter() {
            let pending = ExpectedReply::Vote { operation: of, kind: phase, round };
            self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        }
        if !up.is_empty() {
            self.actions.push_back(Action::Send { request, nodes: up, as_text: false });
        }
        for node in nodes.without(up).iter() {
            if let Some(vote) = self.pipelines[node.index()].implicit_vote(now, self.limits.reply_timeout) {
                self.deliver_vote(of, node, phase, round, vote, now);
            }
        }
    }

    fn up_of(&self, nodes: NodeSet) -> NodeSet {
        nodes.iter().filter(|node| matches!(self.pipelines[node.index()].link, LinkState::Up)).collect()
    }

    /// Undoes on every one of these nodes: at once behind its own SET where there is a connection, or owed.
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
            // Whoever waits for the release hears at once that this node will not answer now.
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
        for release in std::mem::take(&mut pipeline.queued_releases) {
            if !release.useful_until.is_due(now) {
                self.send_pending_release(node, release, false, now);
            }
        }
    }

    /// The node has lost its scripts: the question goes out once more with the script's text, but only while its
    /// answer matters. Behind an undo of the same token it would bring back what was undone.
    pub(super) fn retry_with_source(
        &mut self,
        node: NodeId,
        id: OperationId,
        phase: RequestKind,
        round: u32,
        now: DualTimestamp,
    ) -> bool {
        let request = match self.operations.get(&id).map(|entry| &entry.operation) {
            Some(Operation::Attempt(bid)) if bid.attempt.is_open() => attempt_request(&bid.attempt, phase),
            Some(Operation::Lease(lease)) if lease.is_held() && phase != RequestKind::Acquire => {
                lease_request(lease, phase, lease.renewal_ttl())
            }
            Some(Operation::Survey(survey)) => survey_request(survey, phase, self.membership.is_some()),
            _ => return false,
        };
        let pending = ExpectedReply::Vote { operation: id, kind: phase, round };
        self.pipelines[node.index()].in_flight.push_back(InFlight { sent: now, expected: pending });
        self.actions.push_back(Action::Send { request, nodes: [node].into_iter().collect(), as_text: true });
        true
    }

    pub(super) fn disconnect(&mut self, node: NodeId, link: LinkState, now: DualTimestamp) {
        let pipeline = &mut self.pipelines[node.index()];
        pipeline.link = link;
        pipeline.retry_at = None;
        let mut orphans = Vec::new();
        for awaiting in std::mem::take(&mut pipeline.in_flight) {
            match awaiting.expected {
                ExpectedReply::Vote { operation: of, kind: phase, round } => orphans.push((of, phase, round)),
                ExpectedReply::Marker { .. } => {}
                ExpectedReply::PendingRelease(release) => {
                    orphans.push((release.operation, RequestKind::Release, 0));
                    pipeline.queued_releases.push_back(release);
                }
            }
        }
        if let Some(members) = &mut self.membership {
            members.on_down(node);
            self.apply_member_steps(now);
        }
        for (of, phase, round) in orphans {
            self.deliver(of, node, phase, round, Vote::Unknown(ReplyFailure::ConnectionLost), now);
        }
    }

    /// A node's answer to an undo.
    pub(super) fn on_release_reply(
        &mut self,
        node: NodeId,
        release: PendingRelease,
        vote: Vote,
        now: DualTimestamp,
    ) {
        let of = release.operation;
        match vote {
            Vote::Granted | Vote::NotHeld | Vote::HeldByOther { .. } => {}
            // An undo may be repeated at will: it is bound to its token, which nobody takes twice.
            Vote::Unknown(ReplyFailure::NoScript) => {
                return self.send_pending_release(node, release, true, now);
            }
            // The node answered, but has not done it.
            _ => {
                let pause =
                    if matches!(vote, Vote::Excluded(_)) { EXCLUDED_RELEASE_RETRY } else { RELEASE_RETRY };
                let retry_at = now.plus(pause);
                let pipeline = &mut self.pipelines[node.index()];
                pipeline.queued_releases.push_back(release);
                pipeline.retry_at = Some(pipeline.retry_at.map_or(retry_at, |other| other.earlier(retry_at)));
            }
        }
        self.deliver(of, node, RequestKind::Release, 0, vote, now);
    }
}

fn release_request(release: &PendingRelease) -> Request {
    Request {
        kind: release.kind,
        key: release.key.clone(),
        token: release.token,
        ttl: Duration::ZERO,
        fence: None,
    }
}

pub(super) fn attempt_request(attempt: &Attempt, phase: RequestKind) -> Request {
    let spec = attempt.spec();
    let (key, ttl) = (spec.key.clone(), spec.params.ttl());
    Request { kind: phase, key, token: attempt.token(), ttl, fence: attempt.fence(phase) }
}

pub(super) fn lease_request(lease: &Lease, phase: RequestKind, ttl: Duration) -> Request {
    Request { kind: phase, key: lease.key().clone(), token: lease.token(), ttl, fence: lease.fence() }
}

pub(super) fn survey_request(survey: &Survey, phase: RequestKind, is_fenced: bool) -> Request {
    let fence = (is_fenced && phase.is_force_release()).then_some(Fence::Next);
    Request { kind: phase, key: survey.key().clone(), token: OwnerToken::new(0), ttl: survey.span(), fence }
}

/// How soon a node is asked again that answered an undo with an error.
const RELEASE_RETRY: Duration = Duration::from_millis(250);
/// The same, where somebody has to grant a right first.
const EXCLUDED_RELEASE_RETRY: Duration = Duration::from_secs(5);
