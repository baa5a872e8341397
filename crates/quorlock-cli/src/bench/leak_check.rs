//! Checks whether any key of this run is left on the nodes, and forgets the records of its names.

use std::time::Duration;

use quorlock::RedlockBuilder;
use quorlock::error::InspectError;
use quorlock::inspect::KeyOwner;
use quorlock::node::NodeReply;
use serde::Serialize;
use tokio::task::JoinSet;

use super::bench_plan::BenchPlan;
use crate::exit::{self, Failure};

/// What the run left on the nodes.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Leftovers {
    /// Keys of this run that are still there, each with its node.
    pub(super) keys: Vec<String>,
    /// Nodes that did not reply.
    pub(super) unchecked: Vec<String>,
    /// The number of fences of this run's names on each node.
    pub(super) fences: usize,
    /// The time within which they expire.
    pub(super) fences_expire_in_seconds: u64,
}

impl Leftovers {
    /// Adds keys of pending releases that may be left on nodes that did not reply.
    pub(super) fn add_unchecked(&mut self, pending_releases: &[(String, Option<String>)]) {
        let possible = pending_releases.iter().filter_map(|(key, node)| match node {
            Some(node) => self.unchecked.contains(node).then(|| format!("{key} on {node} (not known)")),
            None => (!self.unchecked.is_empty()).then(|| format!("{key} (not known)")),
        });
        let possible: Vec<String> = possible.collect();
        self.keys.extend(possible);
    }

    /// A short message on whether keys are left, and how many.
    pub(super) fn summary(&self) -> String {
        match self.keys.len() {
            0 if self.unchecked.is_empty() => "no key of this run is left".to_owned(),
            0 => {
                format!(
                    "no key of this run is left on the nodes that replied (no reply: {})",
                    self.unchecked.join(", ")
                )
            }
            1 => "1 key of this run is left, until it expires".to_owned(),
            many => format!("{many} keys of this run are left, until they expire"),
        }
    }
}

/// Inspects every name of the run on every node.
pub(super) async fn find_leftovers(builder: RedlockBuilder, plan: &BenchPlan) -> Result<Leftovers, Failure> {
    let redlock = builder.read_only(true).connect_lazy()?;
    redlock.node_status().await;
    let names = (0..plan.keys).map(|key| plan.name(key)).chain([format!("{}:probe", plan.prefix)]);
    let mut inspections = JoinSet::new();
    for name in names {
        let redlock = redlock.clone();
        inspections.spawn(async move {
            let inspection = redlock.inspect(&name).await?;
            // Plain clients have nothing to forget. The inspection shows what is left.
            let _ = redlock.forget(&name).await;
            Ok::<_, InspectError>((name, inspection))
        });
    }
    let mut leftovers = Leftovers {
        fences: plan.max_ttl.map_or(0, |_| plan.keys),
        fences_expire_in_seconds: plan.max_ttl.map_or(0, |longest| longest.as_secs() + 1),
        ..Leftovers::default()
    };
    while let Some(inspected) = inspections.join_next().await {
        let inspected = inspected.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
        let (name, inspection) = inspected?;
        for node in inspection.nodes {
            match node.reply {
                NodeReply::Inspected(it) if it.holder == KeyOwner::Unheld => {}
                NodeReply::Inspected(_) => leftovers.keys.push(format!("{name} on {}", node.node)),
                _ if leftovers.unchecked.iter().any(|other| **other == *node.node) => {}
                _ => leftovers.unchecked.push(node.node.to_string()),
            }
        }
    }
    leftovers.keys.sort_unstable();
    leftovers.unchecked.sort_unstable();
    let _ = redlock.shutdown(DRAIN).await;
    Ok(leftovers)
}

const DRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_release_is_reported_only_for_nodes_without_a_reply() {
        let mut leftovers = Leftovers { unchecked: vec!["h:2".to_owned()], ..Leftovers::default() };
        assert_eq!(
            leftovers.summary(),
            "no key of this run is left on the nodes that replied (no reply: h:2)"
        );
        let pending = |node: &str| ("a".to_owned(), Some(node.to_owned()));
        leftovers.add_unchecked(&[pending("h:1"), pending("h:2")]);
        assert_eq!(leftovers.keys, ["a on h:2 (not known)"]);
        assert_eq!(leftovers.summary(), "1 key of this run is left, until it expires");
        let mut all_replied = Leftovers::default();
        all_replied.add_unchecked(&[pending("h:1"), ("a".to_owned(), None)]);
        assert_eq!(all_replied.summary(), "no key of this run is left");
    }
}
