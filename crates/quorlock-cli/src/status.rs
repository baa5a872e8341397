//! `quorlock status`: a lock from the outside.

use quorlock::{ExclusionReason, Inspection, KeyOwner, KeyState, NodeState, NodeStatus, Vote};
use serde_json::json;

use crate::args::StatusArgs;
use crate::config;
use crate::exit::{self, Failure};
use crate::nodes;
pub(crate) use crate::output::print;
use crate::waiting;

/// A lock, and the nodes it stands on.
struct Scene {
    seen: Inspection,
    nodes: Vec<NodeStatus>,
}

pub(crate) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let redlock = config::cluster(args.nodes)?.builder.read_only().connect_lazy()?;
    // All of them, not only the first that make a quorum: somebody wants to see each.
    let nodes = redlock.node_status().await;
    let scene = Scene { seen: redlock.inspect(&args.name).await?, nodes };
    let (verdict, code) = scene.verdict();
    print(&if args.json { scene.json_of(&args.name) } else { scene.table_of(&args.name, &verdict) });
    Ok(code)
}

impl Scene {
    /// In words, and as an exit code: 0 free, 1 held.
    fn verdict(&self) -> (String, u8) {
        let quorum = self.seen.quorum;
        if let Some(words) = waiting::lasting(&self.seen) {
            (format!("{words}: `quorlock force-release` frees it, if nobody does"), 1)
        } else if let Some((mark, life)) = self.seen.holder() {
            let life = life
                .map_or_else(String::new, |life| format!(" for {} more (unless renewed)", nodes::span(life)));
            (format!("held by #{mark}{life}"), 1)
        } else if self.voices().filter(|sighting| sighting.holder == KeyOwner::Unheld).count() >= quorum {
            ("free".to_owned(), 0)
        } else if self.voices().count() < quorum {
            // A wrong list and a refusal do not pass by themselves, where too few others are left.
            let votes = self.seen.nodes.iter().map(|sight| &sight.reply);
            let code = exit::of_too_few(&self.nodes, votes, quorum);
            (format!("unknown: {}", self.why_unknown()), code)
        } else {
            ("held: keys in the way, though nobody has a quorum".to_owned(), 1)
        }
    }

    /// What nodes show whose word counts: one that may have forgotten the key shows none too.
    fn voices(&self) -> impl Iterator<Item = &KeyState> {
        self.seen.nodes.iter().filter_map(|sight| match &sight.reply {
            Vote::Inspected(sighting) if sight.is_voting => Some(sighting),
            _ => None,
        })
    }

    fn why_unknown(&self) -> String {
        if nodes::are_undeclared(&self.nodes) {
            return match nodes::first_to_mend(&self.nodes) {
                Some(first) => {
                    format!("nobody declared these nodes a cluster; {first}; then run `quorlock init`")
                }
                None => "nobody declared these nodes a cluster (`quorlock init`)".to_owned(),
            };
        }
        let (count, all, quorum) = (self.voices().count(), self.nodes.len(), self.seen.quorum);
        if let Some(words) = nodes::without_the_others(&self.nodes, quorum) {
            return words;
        }
        let verb = if count == 1 { "votes" } else { "vote" };
        let wait = nodes::quorum_in(&self.nodes, quorum).filter(|wait| !wait.is_zero());
        let wait = wait.map_or_else(String::new, |wait| format!(", and do in {:.1} s", wait.as_secs_f64()));
        let first = if self.nodes.iter().any(nodes::waits_for_others) {
            nodes::first_to_mend(&self.nodes).map_or_else(String::new, |first| format!("; {first}"))
        } else {
            String::new()
        };
        format!("{count} of {all} nodes {verb}, {quorum} must{wait}{first}")
    }

    fn table_of(&self, name: &str, verdict: &str) -> String {
        let width = self.nodes.iter().map(|node| node.address.len()).max().unwrap_or(0);
        let is_to_mend = nodes::first_to_mend(&self.nodes).is_some();
        let is_alone = nodes::without_the_others(&self.nodes, self.seen.quorum).is_some();
        let nodes = self.seen.nodes.iter().zip(&self.nodes).map(|(sight, node)| {
            let said = match &sight.reply {
                Vote::Excluded(ExclusionReason::Uninitialized) if is_alone => nodes::NEW.to_owned(),
                Vote::Excluded(ExclusionReason::ClusterMismatch(_)) if is_alone => nodes::ALONE.to_owned(),
                Vote::Excluded(ExclusionReason::Uninitialized) if is_to_mend => nodes::BLANK.to_owned(),
                vote => vote.to_string(),
            };
            // What is no sight says itself what is wrong.
            let trouble = match &node.state {
                NodeState::Excluded(ExclusionReason::Uninitialized) if is_alone => {
                    Some(nodes::NEW.to_owned())
                }
                NodeState::Excluded(ExclusionReason::ClusterMismatch(_)) if is_alone => {
                    Some(nodes::ALONE.to_owned())
                }
                _ => nodes::trouble_of(node),
            };
            let trouble = trouble.filter(|_| matches!(sight.reply, Vote::Inspected(_)));
            let trouble = trouble.map_or_else(String::new, |trouble| format!("; but {trouble}"));
            // Without this, the advice to declare a cluster leads round in a circle.
            let refusal = nodes::refusal_of(node).map_or_else(String::new, |words| format!("; {words}"));
            format!("{:width$}  {said}{trouble}{refusal}\n", sight.node)
        });
        nodes.chain([format!("{name:?} is {verdict}\n")]).collect()
    }

    fn json_of(&self, name: &str) -> String {
        let (verdict, code) = self.verdict();
        let nodes: Vec<_> = (self.seen.nodes.iter().zip(&self.nodes))
            .map(|(sight, node)| {
                let mut fields = nodes::json_of(node);
                let more = match &sight.reply {
                    Vote::Inspected(it) => {
                        let holder = match it.holder {
                            KeyOwner::Owner(mark) => Some(mark.to_string()),
                            _ => None,
                        };
                        let left = it.remaining.map(|left| left.as_millis() as u64);
                        vec![
                            ("held", json!(it.holder != KeyOwner::Unheld)),
                            ("holder", json!(holder)),
                            ("remaining_ms", json!(left)),
                        ]
                    }
                    other => vec![("error", json!(other.to_string()))],
                };
                fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
                fields
            })
            .collect();
        let state = match code {
            0 => "free",
            1 => "held",
            _ => "unknown",
        };
        let holder = self.seen.holder().map(|(mark, _)| mark.to_string());
        let left = self.seen.holder().and_then(|(_, left)| left).map(|left| left.as_millis() as u64);
        let all = json!({
            "name": name, "state": state, "verdict": verdict, "holder": holder, "remaining_ms": left,
            "quorum": self.seen.quorum, "votes": nodes::voting(&self.nodes), "nodes": nodes,
        });
        format!("{all}\n")
    }
}
