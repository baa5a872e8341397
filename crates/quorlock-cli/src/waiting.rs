//! Why a `run` waits: failed attempts, and the holder of the lock.

mod reporter;

use std::collections::{BTreeMap, BTreeSet};

use quorlock::{
    Event, FailureReason, Inspection, KeyOwner, KeyState, NodeState, NodeStatus, OwnerHash, ReplyFailure,
    RequestKind, Vote,
};
use tokio::sync::watch;

use crate::nodes;
use crate::run::on_probation;
pub(crate) use reporter::{WaitReason, WaitReporter};

/// What the events of the driver show about attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptEvents {
    /// Why the last attempt failed, unless the lock was held.
    reason: Option<FailureReason>,
    /// The nodes that replied to the last attempt.
    replied: BTreeSet<String>,
    /// The nodes that have replied to the current attempt.
    replying: BTreeSet<String>,
    /// The refusal of each node, until it votes.
    errors: BTreeMap<String, String>,
    /// The owner hash of the acquired lock.
    pub(crate) owner: Option<OwnerHash>,
}

impl AttemptEvents {
    /// Records an event. Notifies the receiver when an attempt has failed or succeeded.
    pub(crate) fn on_event(tell: &watch::Sender<Self>, event: &Event<'_>) {
        tell.send_if_modified(|news| match event {
            Event::ReplyReceived {
                node,
                request: RequestKind::Acquire | RequestKind::RaiseFence,
                reply: vote,
                ..
            } => {
                news.replying.insert((*node).to_owned());
                match vote {
                    Vote::Unknown(ReplyFailure::TransientError(_) | ReplyFailure::UnexpectedReply)
                    | Vote::Excluded(_) => {
                        news.errors.insert((*node).to_owned(), vote.to_string());
                    }
                    _ => drop(news.errors.remove(*node)),
                }
                false
            }
            Event::AcquireFailed { reason: why, .. } => {
                news.replied = std::mem::take(&mut news.replying);
                news.reason = match why {
                    FailureReason::NoQuorum | FailureReason::TooLate | FailureReason::OnProbation { .. } => {
                        Some(**why)
                    }
                    _ => None,
                };
                news.reason.is_some()
            }
            Event::Acquired { owner: mark, .. } => {
                news.owner = Some(*mark);
                true
            }
            _ => false,
        });
    }

    /// The obstacle other than a held lock, as a message.
    pub(crate) fn obstacle(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(WaitReason, String)> {
        match self.reason.as_ref()? {
            FailureReason::OnProbation { retry_after } => {
                Some((WaitReason::OnProbation, on_probation(*retry_after)))
            }
            FailureReason::TooLate => Some((
                WaitReason::TooLate,
                "the nodes granted the lock too late; a longer --ttl may help".to_owned(),
            )),
            _ => self.too_few(nodes, quorum),
        }
    }

    fn too_few(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(WaitReason, String)> {
        let (mut troubles, mut silent, mut kinds) = (Vec::new(), Vec::new(), BTreeMap::new());
        for node in nodes {
            let address = node.address.as_str();
            if let Some((words, kind)) = nodes::problem_of(node).zip(kind_of(node)) {
                troubles.push((address, words));
                kinds.insert(address, kind);
            } else if let Some(words) = self.errors.get(address) {
                troubles.push((address, words.clone()));
                kinds.insert(address, without_numbers(words));
            } else if !self.replied.contains(address) {
                silent.push((address, "no reply in time".to_owned()));
                kinds.insert(address, UNREACHABLE.to_owned());
            }
        }
        // If the others had decided, silent nodes do not matter.
        if troubles.len() <= nodes.len() - quorum {
            troubles.append(&mut silent);
        }
        // Without troubles, the outage is over.
        (!troubles.is_empty()).then(|| {
            let kind =
                WaitReason::NodeProblems(troubles.iter().map(|(node, _)| kinds[node].clone()).collect());
            (kind, format!("too few nodes vote: {}", nodes::grouped(&troubles, nodes.len())))
        })
    }
}

/// The holder of a lock, and for how long; or a key without expiry. None if the lock is free or being handed over.
pub(crate) fn holder(seen: &Inspection) -> Option<(WaitReason, String)> {
    if let Some(words) = without_expiry(seen) {
        return Some((
            WaitReason::WithoutExpiry,
            format!("{words}: see `quorlock status`, `quorlock force-release`"),
        ));
    }
    let (mark, left) = seen.holder()?;
    let words = left.map_or_else(
        || format!("held by #{mark}"),
        |left| format!("held by #{mark} for {} more, unless renewed", nodes::span(left)),
    );
    Some((WaitReason::Held(mark), words))
}

/// The message for keys without expiry on so many nodes that the others are no quorum.
pub(crate) fn without_expiry(seen: &Inspection) -> Option<String> {
    let lasting = || {
        seen.nodes.iter().filter_map(|sight| match &sight.reply {
            Vote::Inspected(KeyState { holder, remaining: None }) if *holder != KeyOwner::Unheld => {
                Some(holder)
            }
            _ => None,
        })
    };
    if lasting().count() <= seen.nodes.len() - seen.quorum {
        return None;
    }
    let owner = seen.holder().map_or_else(String::new, |(mark, _)| format!("#{mark}, "));
    let is_no_lock = lasting().any(|holder| *holder == KeyOwner::NotALock);
    let kind = if is_no_lock { "a key of another type" } else { "a key" };
    Some(format!("held by {owner}{kind} that never expires"))
}

/// The reason to wait that these nodes give.
pub(crate) fn node_problems(nodes: &[NodeStatus]) -> WaitReason {
    WaitReason::NodeProblems(nodes.iter().filter_map(kind_of).collect())
}

/// The kind of trouble that keeps a node from voting: one kind for all messages of an unreachable node.
fn kind_of(node: &NodeStatus) -> Option<String> {
    let words = nodes::problem_of(node)?;
    let is_away = match &node.state {
        NodeState::Connecting | NodeState::Down(_) => true,
        NodeState::Unverified(fault) => {
            matches!(
                fault,
                Some(
                    ReplyFailure::Timeout
                        | ReplyFailure::Backlogged
                        | ReplyFailure::Disconnected(_)
                        | ReplyFailure::ConnectionLost
                )
            )
        }
        _ => false,
    };
    Some(if is_away { UNREACHABLE.to_owned() } else { without_numbers(&words) })
}

/// The message without digits, because durations change every time.
fn without_numbers(words: &str) -> String {
    words.chars().filter(|char| !char.is_ascii_digit()).collect()
}

const UNREACHABLE: &str = "away";
