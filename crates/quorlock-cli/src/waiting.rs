//! What keeps a `run` waiting.

mod teller;

use std::collections::{BTreeMap, BTreeSet};

use quorlock::{
    Event, FailureReason, Inspection, KeyOwner, KeyState, NodeState, NodeStatus, OwnerHash, ReplyFailure,
    RequestKind, Vote,
};
use tokio::sync::watch;

use crate::nodes;
use crate::run::on_probation;
pub(crate) use teller::{Kind, Teller};

/// What the driver tells of attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// Why the last one failed, if not because others hold the lock.
    why: Option<FailureReason>,
    /// Who gave the last one any answer.
    answered: BTreeSet<String>,
    /// And the one that is under way.
    answering: BTreeSet<String>,
    /// What each node said that does not vote now, until it votes.
    refusals: BTreeMap<String, String>,
    /// What the nodes show of the owner of the lock that was taken.
    pub(crate) mark: Option<OwnerHash>,
}

impl News {
    /// Takes in what an observer hears. Whoever waits for news is woken when an attempt has failed.
    pub(crate) fn hear(tell: &watch::Sender<Self>, event: &Event<'_>) {
        tell.send_if_modified(|news| match event {
            Event::ReplyReceived {
                node,
                request: RequestKind::Acquire | RequestKind::RaiseFence,
                reply: vote,
                ..
            } => {
                news.answering.insert((*node).to_owned());
                match vote {
                    Vote::Unknown(ReplyFailure::TransientError(_) | ReplyFailure::UnexpectedReply)
                    | Vote::Excluded(_) => {
                        news.refusals.insert((*node).to_owned(), vote.to_string());
                    }
                    _ => drop(news.refusals.remove(*node)),
                }
                false
            }
            Event::AcquireFailed { reason: why, .. } => {
                news.answered = std::mem::take(&mut news.answering);
                news.why = match why {
                    FailureReason::NoQuorum | FailureReason::TooLate | FailureReason::OnProbation { .. } => {
                        Some(**why)
                    }
                    _ => None,
                };
                news.why.is_some()
            }
            Event::Acquired { owner: mark, .. } => {
                news.mark = Some(*mark);
                true
            }
            _ => false,
        });
    }

    /// What keeps us, other than that others hold the lock, and in words.
    pub(crate) fn words(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(Kind, String)> {
        match self.why.as_ref()? {
            FailureReason::OnProbation { retry_after } => {
                Some((Kind::OnProbation, on_probation(*retry_after)))
            }
            FailureReason::TooLate => {
                Some((Kind::TooLate, "granted too late to be of use: a longer --ttl may help".to_owned()))
            }
            _ => self.too_few(nodes, quorum),
        }
    }

    fn too_few(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(Kind, String)> {
        let (mut troubles, mut silent, mut kinds) = (Vec::new(), Vec::new(), BTreeMap::new());
        for node in nodes {
            let address = node.address.as_str();
            if let Some((words, kind)) = nodes::trouble_of(node).zip(kind_of(node)) {
                troubles.push((address, words));
                kinds.insert(address, kind);
            } else if let Some(words) = self.refusals.get(address) {
                troubles.push((address, words.clone()));
                kinds.insert(address, timeless(words));
            } else if !self.answered.contains(address) {
                silent.push((address, "no answer in time".to_owned()));
                kinds.insert(address, AWAY.to_owned());
            }
        }
        // Where the others had decided, nobody waited for the rest.
        if troubles.len() <= nodes.len() - quorum {
            troubles.append(&mut silent);
        }
        // Else all is well again.
        (!troubles.is_empty()).then(|| {
            let kind = Kind::Troubles(troubles.iter().map(|(node, _)| kinds[node].clone()).collect());
            (kind, format!("too few nodes vote: {}", nodes::grouped(&troubles, nodes.len())))
        })
    }
}

/// Who holds a lock, and for how long; or what is in its way for good. Nothing where it is free, or on its way to another.
pub(crate) fn holder(seen: &Inspection) -> Option<(Kind, String)> {
    if let Some(words) = lasting(seen) {
        return Some((Kind::Lasting, format!("{words}: see `quorlock status`, `quorlock force-release`")));
    }
    let (mark, left) = seen.holder()?;
    let words = left.map_or_else(
        || format!("held by #{mark}"),
        |left| format!("held by #{mark} for {} more, unless renewed", nodes::span(left)),
    );
    Some((Kind::Held(mark), words))
}

/// That keys without expiry are in the way, on so many nodes that the others are no quorum.
pub(crate) fn lasting(seen: &Inspection) -> Option<String> {
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

/// What is wrong with these nodes.
pub(crate) fn troubles(nodes: &[NodeStatus]) -> Kind {
    Kind::Troubles(nodes.iter().filter_map(kind_of).collect())
}

/// What keeps it from voting, the same in whatever words it is found to be away.
fn kind_of(node: &NodeStatus) -> Option<String> {
    let words = nodes::trouble_of(node)?;
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
    Some(if is_away { AWAY.to_owned() } else { timeless(&words) })
}

/// Without spans of time, which change all the time.
fn timeless(words: &str) -> String {
    words.chars().filter(|char| !char.is_ascii_digit()).collect()
}

const AWAY: &str = "away";
