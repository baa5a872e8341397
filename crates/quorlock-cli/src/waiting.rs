//! Why a `run` waits: failed attempts, and the holder of the lock.

mod reporter;

use std::collections::BTreeMap;
use std::sync::Arc;

use quorlock::event::{Event, FailureReason};
use quorlock::inspect::{Holder, Inspection, KeyOwner, KeyState};
use quorlock::node::{NodeReply, NodeState, NodeStatus, ReplyFailure};
use tokio::sync::watch;

use crate::nodes;
use crate::run::on_probation;
pub(crate) use reporter::{WaitReason, WaitReporter};

/// What the events of the driver show about attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptEvents {
    /// Why the last attempt failed, unless the lock was held.
    reason: Option<FailureReason>,
    /// The nodes that replied to the last attempt, each with its error if it did not vote.
    replied: BTreeMap<Arc<str>, Option<String>>,
    /// The same for the current attempt.
    replying: BTreeMap<Arc<str>, Option<String>>,
}

impl AttemptEvents {
    /// Records an event. Notifies the receiver when an attempt has failed.
    pub(crate) fn on_event(sender: &watch::Sender<Self>, event: &Event) {
        sender.send_if_modified(|attempts| match event {
            // An inspection of the holder is no attempt.
            Event::ReplyReceived { reply: NodeReply::Inspected(_), .. } => false,
            Event::ReplyReceived { node, reply, .. } => {
                let error = attempts.replying.entry(Arc::clone(node)).or_default();
                // Later replies, to the releases of the attempt, do not replace an error.
                if let NodeReply::Failed(ReplyFailure::TransientError(_) | ReplyFailure::UnexpectedReply)
                | NodeReply::Excluded(_) = reply
                {
                    *error = Some(reply.to_string());
                }
                false
            }
            Event::AcquireFailed { reason: failure, .. } => {
                attempts.replied = std::mem::take(&mut attempts.replying);
                attempts.reason = match failure {
                    FailureReason::NoQuorum | FailureReason::TooLate | FailureReason::OnProbation { .. } => {
                        Some(*failure)
                    }
                    _ => None,
                };
                attempts.reason.is_some()
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
        let (mut problems, mut unreachable, mut reasons) = (Vec::new(), Vec::new(), BTreeMap::new());
        for node in nodes {
            let address = &*node.address;
            if let Some((message, kind)) = nodes::problem_of(node).zip(kind_of(node)) {
                problems.push((address, message));
                reasons.insert(address, kind);
                continue;
            }
            match self.replied.get(address) {
                Some(Some(message)) => {
                    problems.push((address, message.clone()));
                    reasons.insert(address, without_numbers(message));
                }
                Some(None) => {}
                None => {
                    unreachable.push((address, "no reply in time".to_owned()));
                    reasons.insert(address, UNREACHABLE.to_owned());
                }
            }
        }
        // If the others decided the attempt, nodes without a reply do not matter.
        if problems.len() <= nodes.len().saturating_sub(quorum) {
            problems.append(&mut unreachable);
        }
        // Without problems, the outage is over.
        (!problems.is_empty()).then(|| {
            let kind =
                WaitReason::NodeProblems(problems.iter().map(|(node, _)| reasons[node].clone()).collect());
            (kind, format!("too few nodes vote: {}", nodes::grouped(&problems, nodes.len())))
        })
    }
}

/// Waits until an attempt has failed. Returns what is known of it, and the nodes' state.
///
/// # Cancel safety
///
/// It may be dropped and called again, until it has read the events.
pub(crate) async fn failed_attempt<E: Clone, N>(
    events: &mut watch::Receiver<E>,
    nodes: impl Future<Output = N>,
) -> (E, N) {
    if events.changed().await.is_err() {
        // The sender is gone: no more events.
        std::future::pending::<()>().await;
    }
    // A statement of its own: the borrowed value is locked until the statement's end, and an event then blocks the
    // driver.
    let seen = events.borrow_and_update().clone();
    // After a lost connection, the reason is known once the node is dialed again.
    (seen, nodes.await)
}

/// The holder of a lock and its remaining time; or a key without expiry. None
/// if the lock is free or changing holders.
pub(crate) fn holder(inspection: &Inspection) -> Option<(WaitReason, String)> {
    if let Some(message) = without_expiry(inspection) {
        return Some((
            WaitReason::WithoutExpiry,
            format!("{message}: see `quorlock status`, `quorlock force-release`"),
        ));
    }
    let Holder { owner, remaining, .. } = inspection.holder()?;
    let message = remaining.map_or_else(
        || format!("held by #{owner}"),
        |remaining| format!("held by #{owner} for {} more, unless renewed", nodes::span(remaining)),
    );
    Some((WaitReason::Contended(owner), message))
}

/// The message for keys without expiry on so many nodes that the others are no quorum.
pub(crate) fn without_expiry(inspection: &Inspection) -> Option<String> {
    let keys_without_expiry = || {
        inspection.nodes.iter().filter_map(|node| match &node.reply {
            NodeReply::Inspected(KeyState { holder, remaining: None, .. }) if *holder != KeyOwner::Unheld => {
                Some(holder)
            }
            _ => None,
        })
    };
    // This client's list may name fewer nodes than the lock cluster's quorum.
    if keys_without_expiry().count() <= inspection.nodes.len().saturating_sub(inspection.quorum) {
        return None;
    }
    let owner = inspection.holder().map_or_else(String::new, |holder| format!("#{}, ", holder.owner));
    let is_no_lock = keys_without_expiry().any(|holder| *holder == KeyOwner::NotALock);
    let kind = if is_no_lock { "a key of another type" } else { "a key" };
    Some(format!("held by {owner}{kind} that never expires"))
}

/// The reason to wait that these nodes give.
pub(crate) fn node_problems(nodes: &[NodeStatus]) -> WaitReason {
    WaitReason::NodeProblems(nodes.iter().filter_map(kind_of).collect())
}

/// The kind of problem that keeps a node from voting: one kind for all messages of an unreachable node.
fn kind_of(node: &NodeStatus) -> Option<String> {
    let message = nodes::problem_of(node)?;
    let is_unreachable = match &node.state {
        NodeState::Connecting | NodeState::Down { .. } => true,
        NodeState::Unverified(failure) => {
            matches!(
                failure,
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
    Some(if is_unreachable { UNREACHABLE.to_owned() } else { without_numbers(&message) })
}

/// The message without digits, because durations change every time.
fn without_numbers(message: &str) -> String {
    message.chars().filter(|char| !char.is_ascii_digit()).collect()
}

const UNREACHABLE: &str = "away";

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// The driver has a thread of its own, and passes each event on before it does anything else.
    #[tokio::test]
    async fn waiting_for_the_state_of_the_nodes_does_not_block_the_driver() {
        let (sender, mut events) = watch::channel("no attempt");
        sender.send_replace("an attempt has failed");
        let (passed_on, is_passed_on) = channel();
        let nodes = async {
            thread::spawn(move || {
                sender.send_replace("the next attempt has failed");
                let _ = passed_on.send(());
            });
            assert_eq!(is_passed_on.recv_timeout(Duration::from_secs(10)), Ok(()), "the driver is blocked");
            "their state"
        };
        let seen = failed_attempt(&mut events, nodes).await;
        assert_eq!(seen, ("an attempt has failed", "their state"));
    }
}
