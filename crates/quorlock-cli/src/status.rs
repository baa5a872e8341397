//! `quorlock status`: who holds a lock, node by node.

use quorlock::inspect::{Holder, Inspection, KeyOwner, KeyState};
use quorlock::node::{ExclusionReason, NodeReply, NodeStatus};
use serde::Serialize;

use crate::args::StatusArgs;
use crate::config;
use crate::exit::{self, Failure};
use crate::nodes::{self, NOT_INITIALIZED, NodeView};
use crate::output::{print, print_json};
use crate::waiting;

/// A lock as the nodes show it, and their state.
struct StatusView {
    inspection: Inspection,
    nodes: Vec<NodeStatus>,
}

pub(crate) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let redlock = config::cluster(args.nodes)?.builder.read_only(true).connect_lazy()?;
    // Wait for every node, not only for a quorum: the table shows each.
    let nodes = redlock.node_status().await;
    let view = StatusView { inspection: redlock.inspect(&args.name).await?, nodes };
    let (verdict, code) = view.verdict();
    if args.json {
        print_json(&view.report(&args.name, &verdict, code));
    } else {
        print(&view.table_of(&args.name, &verdict));
    }
    Ok(code)
}

/// The lock as JSON.
#[derive(Serialize)]
struct LockReport<'a> {
    name: &'a str,
    state: &'static str,
    verdict: &'a str,
    holder: Option<Holder>,
    quorum: usize,
    votes: usize,
    nodes: Vec<InspectedNode<'a>>,
}

#[derive(Serialize)]
struct InspectedNode<'a> {
    #[serde(flatten)]
    node: NodeView<'a>,
    reply: &'a NodeReply,
}

impl StatusView {
    /// The verdict, and the exit code: 0 free, 1 held.
    fn verdict(&self) -> (String, u8) {
        let quorum = self.inspection.quorum;
        if let Some(message) = waiting::without_expiry(&self.inspection) {
            (format!("{message}: free it with `quorlock force-release`, if no process will"), 1)
        } else if let Some(Holder { owner, remaining, .. }) = self.inspection.holder() {
            let remaining = remaining.map_or_else(String::new, |remaining| {
                format!(" for {} more (unless renewed)", nodes::span(remaining))
            });
            (format!("held by #{owner}{remaining}"), 1)
        } else if self.voting_replies().filter(|state| state.holder == KeyOwner::Unheld).count() >= quorum {
            ("free".to_owned(), 0)
        } else if self.voting_replies().count() < quorum {
            // A wrong list and an exclusion do not end by themselves: they decide the exit code if too few
            // other nodes are left.
            let votes = self.inspection.nodes.iter().map(|node| &node.reply);
            let code = exit::code_of_too_few(&self.nodes, votes, quorum);
            (format!("unknown: {}", self.unknown_reason()), code)
        } else {
            ("held: keys are in the way, though no holder has a quorum".to_owned(), 1)
        }
    }

    /// The key as the nodes that vote show it. A node on probation may have
    /// forgotten it, so it does not count.
    fn voting_replies(&self) -> impl Iterator<Item = &KeyState> {
        self.inspection.nodes.iter().filter_map(|node| match &node.reply {
            NodeReply::Inspected(state) if node.is_voting => Some(state),
            _ => None,
        })
    }

    fn unknown_reason(&self) -> String {
        if nodes::are_uninitialized(&self.nodes) {
            return match nodes::fix_first(&self.nodes) {
                Some(first) => format!("{NOT_INITIALIZED}: {first}; then run `quorlock init`"),
                None => format!("{NOT_INITIALIZED}: run `quorlock init`"),
            };
        }
        let (count, all, quorum) = (self.voting_replies().count(), self.nodes.len(), self.inspection.quorum);
        let verb = if count == 1 { "votes" } else { "vote" };
        let wait = nodes::quorum_in(&self.nodes, quorum).filter(|wait| !wait.is_zero());
        let wait = wait.map_or_else(String::new, |wait| format!(", and do in {:.1} s", wait.as_secs_f64()));
        let first = if self.nodes.iter().any(nodes::waits_for_others) {
            nodes::fix_first(&self.nodes).map_or_else(String::new, |first| format!("; {first}"))
        } else {
            String::new()
        };
        format!("{count} of {all} nodes {verb}, {quorum} must{wait}{first}")
    }

    fn table_of(&self, name: &str, verdict: &str) -> String {
        let width = self.nodes.iter().map(|node| node.address.len()).max().unwrap_or(0);
        let is_to_fix = nodes::fix_first(&self.nodes).is_some();
        let nodes = self.inspection.nodes.iter().zip(&self.nodes).map(|(inspection, node)| {
            let message = match &inspection.reply {
                NodeReply::Excluded(ExclusionReason::Uninitialized) if is_to_fix => nodes::BLANK.to_owned(),
                vote => vote.to_string(),
            };
            // If the inspection failed, its error already says why.
            let problem = nodes::problem_of(node);
            let problem = problem.filter(|_| matches!(inspection.reply, NodeReply::Inspected(_)));
            let problem = problem.map_or_else(String::new, |problem| format!("; but {problem}"));
            // Otherwise the advice to run `quorlock init` would fail again for the same reason.
            let write_error = nodes::write_error_of(node)
                .map_or_else(String::new, |write_error| format!("; {write_error}"));
            let vacating = nodes::vacating(node).map_or_else(String::new, |vacating| format!("; {vacating}"));
            format!("{:width$}  {message}{problem}{write_error}{vacating}\n", inspection.node)
        });
        nodes.chain([format!("{name:?} is {verdict}\n")]).collect()
    }

    fn report<'a>(&'a self, name: &'a str, verdict: &'a str, code: u8) -> LockReport<'a> {
        let state = match code {
            0 => "free",
            1 => "held",
            _ => "unknown",
        };
        let Inspection { nodes: inspections, quorum, .. } = &self.inspection;
        let nodes = self.nodes.iter().zip(inspections);
        LockReport {
            name,
            state,
            verdict,
            holder: self.inspection.holder(),
            quorum: *quorum,
            votes: nodes::voting(&self.nodes),
            nodes: nodes.map(|(node, it)| InspectedNode { node: node.into(), reply: &it.reply }).collect(),
        }
    }
}
