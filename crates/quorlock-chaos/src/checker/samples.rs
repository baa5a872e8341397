//! Samples of the locks' keys on each node, as the run recorded them.

use std::collections::{BTreeMap, HashMap};

use super::{RunFacts, Span};
use crate::history::{EventKind, History, KeySample};

/// All samples, by node, ordered by time.
pub(super) struct Samples<'a> {
    nodes: Vec<Vec<Sample<'a>>>,
}

/// A node's keys at some moment between `requested_at` and `at`.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    /// Its position in the history.
    pub(super) event_index: usize,
    pub(super) requested_at: u64,
    pub(super) at: u64,
    keys: &'a BTreeMap<String, KeySample>,
}

impl<'a> Samples<'a> {
    pub(super) fn of_history(history: &'a History, facts: &RunFacts<'_>) -> Self {
        let mut nodes: Vec<Vec<Sample<'a>>> = vec![Vec::new(); facts.settings.nodes];
        for (index, event) in history.events().iter().enumerate() {
            if let EventKind::Sampled { node, requested_at, keys } = &event.kind
                && let Some(samples) = nodes.get_mut(*node)
            {
                samples.push(Sample { event_index: index, requested_at: *requested_at, at: event.at, keys });
            }
        }
        Self { nodes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.iter().all(Vec::is_empty)
    }

    /// The samples of a node whose request and reply are within `span`.
    pub(super) fn within(&self, node: usize, span: Span) -> &[Sample<'a>] {
        let samples = &self.nodes[node];
        let from = samples.partition_point(|sample| sample.requested_at < span.from);
        let to = samples.partition_point(|sample| sample.at <= span.to).max(from);
        &samples[from..to]
    }

    /// The longest time within `span` without a sample of the node.
    pub(super) fn longest_gap(&self, node: usize, span: Span) -> u64 {
        let times = self.within(node, span).iter().map(|sample| sample.at);
        let edges: Vec<u64> = std::iter::once(span.from).chain(times).chain([span.to]).collect();
        edges.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0)
    }

    /// The owner of the lock that is held throughout `span`: the owner whose value was on a quorum of nodes
    /// at one moment of it.
    ///
    /// A client cannot report its own owner token. While its lock is held, its token is on a quorum. By
    /// quorum intersection no other token can be: two quorums share a node, and a node has one value under a
    /// key. Samples of different nodes are from different moments. So a value counts on a node between two
    /// samples that both show it.
    pub(super) fn owner(&self, key: &str, span: Span, quorum: usize) -> Option<&'a str> {
        let mut edges: Vec<(u64, i64, &'a str)> = Vec::new();
        for node in 0..self.nodes.len() {
            for pair in self.within(node, span).windows(2) {
                if let (Some(owner), Some(next)) = (pair[0].owner(key), pair[1].owner(key))
                    && owner == next
                {
                    edges.extend([(pair[0].at, 1, owner), (pair[1].requested_at, -1, owner)]);
                }
            }
        }
        // At equal times, ends sort before beginnings, so that touching spans do not overlap.
        edges.sort_unstable();
        let mut node_counts: HashMap<&str, i64> = HashMap::new();
        edges.into_iter().find_map(|(_, change, owner)| {
            let nodes = node_counts.entry(owner).or_default();
            *nodes += change;
            (*nodes >= quorum as i64).then_some(owner)
        })
    }
}

impl<'a> Sample<'a> {
    /// The key's owner, as a short hash; none if there was no key.
    pub(super) fn owner(&self, key: &str) -> Option<&'a str> {
        self.keys.get(key)?.owner.as_deref()
    }

    pub(super) fn fence(&self, key: &str) -> Option<u64> {
        self.keys.get(key)?.fence
    }
}
