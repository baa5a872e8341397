//! What keeps a `run` waiting, other than that others hold the lock: said once, and again when it is something else.

use std::collections::{BTreeMap, BTreeSet};

use quorlock::{Event, Fault, Holder, Inspection, Mark, NodeStatus, Phase, Sighting, Vote, Why};
use tokio::sync::watch;

use crate::exit;
use crate::nodes;
use crate::run::on_probation;

/// What the driver tells of attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// Why the last one failed, if not because others hold the lock.
    why: Option<Why>,
    /// Who gave the last one any answer.
    answered: BTreeSet<String>,
    /// And the one that is under way.
    answering: BTreeSet<String>,
    /// What each node said that does not vote now, until it votes.
    refusals: BTreeMap<String, String>,
    /// What the nodes show of the owner of the lock that was taken.
    pub(crate) mark: Option<Mark>,
}

impl News {
    /// Takes in what an observer hears. Whoever waits for news is woken when an attempt has failed.
    pub(crate) fn hear(tell: &watch::Sender<Self>, event: &Event<'_>) {
        tell.send_if_modified(|news| match event {
            Event::Voted { node, phase: Phase::Grant | Phase::Raise, vote, .. } => {
                news.answering.insert((*node).to_owned());
                match vote {
                    Vote::Unknown(Fault::Refused(_) | Fault::Odd) | Vote::Barred(_) => {
                        news.refusals.insert((*node).to_owned(), vote.to_string());
                    }
                    _ => drop(news.refusals.remove(*node)),
                }
                false
            }
            Event::Refused { why, .. } => {
                news.answered = std::mem::take(&mut news.answering);
                news.why = match why {
                    Why::NoQuorum | Why::TooLate | Why::OnProbation { .. } => Some(**why),
                    _ => None,
                };
                news.why.is_some()
            }
            Event::Acquired { mark, .. } => {
                news.mark = Some(*mark);
                true
            }
            _ => false,
        });
    }

    /// In words, and by what another reason is told from the same one.
    pub(crate) fn words(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(BTreeSet<String>, String)> {
        match self.why.as_ref()? {
            Why::OnProbation { retry_after } => {
                Some((BTreeSet::from(["on probation".to_owned()]), on_probation(*retry_after)))
            }
            Why::TooLate => {
                let words = "granted too late to be of use: a longer --ttl may help";
                Some((BTreeSet::from([words.to_owned()]), words.to_owned()))
            }
            _ => self.too_few(nodes, quorum),
        }
    }

    fn too_few(&self, nodes: &[NodeStatus], quorum: usize) -> Option<(BTreeSet<String>, String)> {
        let (mut troubles, mut silent) = (Vec::new(), Vec::new());
        for node in nodes {
            let address = &node.address;
            if let Some(words) = nodes::trouble_of(node).or_else(|| self.refusals.get(address).cloned()) {
                troubles.push((address.as_str(), words));
            } else if !self.answered.contains(address) {
                silent.push((address.as_str(), "no answer in time".to_owned()));
            }
        }
        // Where the others had decided, nobody waited for the rest.
        if troubles.len() <= nodes.len() - quorum {
            troubles.append(&mut silent);
        }
        // Else all is well again.
        (!troubles.is_empty()).then(|| {
            let reasons = troubles.iter().map(|(_, words)| timeless(words)).collect();
            (reasons, format!("too few nodes vote: {}", nodes::grouped(&troubles, nodes.len())))
        })
    }
}

/// Says it.
pub(crate) struct Teller<'a> {
    name: &'a str,
    is_quiet: bool,
    last: Option<BTreeSet<String>>,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(name: &'a str, is_quiet: bool) -> Self {
        Self { name, is_quiet, last: None }
    }

    /// Unless it is what was said last.
    pub(crate) fn tell(&mut self, reasons: BTreeSet<String>, words: &str) {
        if !self.is_quiet && self.last.as_ref() != Some(&reasons) {
            exit::say(&format!("{}: waiting: {words}", exit::lock(self.name)));
            self.last = Some(reasons);
        }
    }
}

/// Who holds a lock, and for how long; or what is in its way for good. Nothing where it is free, or on its way to another.
pub(crate) fn holder(seen: &Inspection) -> Option<String> {
    if let Some(words) = lasting(seen) {
        return Some(format!("{words}: see `quorlock status`, `quorlock break`"));
    }
    let (mark, left) = seen.holder()?;
    Some(left.map_or_else(
        || format!("held by #{mark}"),
        |left| format!("held by #{mark} for {} more, unless renewed", nodes::span(left)),
    ))
}

/// That keys without expiry are in the way, on so many nodes that the others are no quorum.
pub(crate) fn lasting(seen: &Inspection) -> Option<String> {
    let lasting = || {
        seen.nodes.iter().filter_map(|sight| match &sight.vote {
            Vote::Seen(Sighting { holder, remaining: None }) if *holder != Holder::Nobody => Some(holder),
            _ => None,
        })
    };
    if lasting().count() <= seen.nodes.len() - seen.quorum {
        return None;
    }
    let owner = seen.holder().map_or_else(String::new, |(mark, _)| format!("#{mark}, "));
    let is_no_lock = lasting().any(|holder| *holder == Holder::OtherType);
    let kind = if is_no_lock { "a key of another type" } else { "a key" };
    Some(format!("held by {owner}{kind} that never expires"))
}

/// What is wrong with these nodes, whichever has it.
pub(crate) fn reasons(nodes: &[NodeStatus]) -> BTreeSet<String> {
    nodes.iter().filter_map(nodes::trouble_of).map(|words| timeless(&words)).collect()
}

/// Without spans of time, which change all the time.
fn timeless(words: &str) -> String {
    words.chars().filter(|char| !char.is_ascii_digit()).collect()
}
