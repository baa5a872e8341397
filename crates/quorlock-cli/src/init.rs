//! `quorlock init`: new servers, declared a cluster.

use std::fmt::Write as _;
use std::time::Duration;

use quorlock::{ExclusionReason, InitError, InitOutcome, NodeState, NodeStatus, ReplyFailure, Vote};
use quorlock_chaos::checker::counted;
use serde_json::{Map, Value, json};

use crate::args::InitArgs;
use crate::config::values::Mode;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::nodes;
use crate::status::print;

pub(crate) async fn init(args: InitArgs) -> Result<u8, Failure> {
    let is_typed_plain = args.nodes.mode == Some(Mode::Plain);
    let Cluster { builder, quorum, max_ttl, fencing_retention, .. } = config::cluster(args.nodes)?;
    let Some(max_ttl) = max_ttl else {
        let why = "plain clients know of no cluster, so there is nothing to declare: leave";
        return Err(if is_typed_plain {
            Failure::new(exit::USAGE, format!("--mode plain: {why} it out"))
        } else {
            Failure::new(exit::CONFIG, format!("{why} out `mode = \"plain\"`"))
        });
    };
    let (state, nodes, list, failure) = match builder.clone().init(args.force).await {
        Ok(init) => {
            // As a client finds them, that changes nothing.
            let nodes = builder.read_only().connect_lazy()?.node_status().await;
            let list = nodes.iter().map(nodes::json_of).collect();
            (
                if init == InitOutcome::Initialized { "initialized" } else { "already-initialized" },
                nodes,
                list,
                None,
            )
        }
        Err(error) => {
            let (state, list, failure) = refused(error)?;
            (state, Vec::new(), list, Some(failure))
        }
    };
    if args.json {
        let [longest, keep] = [max_ttl, fencing_retention].map(|span| span.as_millis() as u64);
        let all = json!({
            "state": state, "quorum": quorum, "max_ttl_ms": longest, "fencing_retention_ms": keep, "nodes": list,
        });
        print(&format!("{all}\n"));
    } else if failure.is_none() {
        print(&words_of(state, &nodes, quorum, [max_ttl, fencing_retention]));
    }
    failure.map_or(Ok(0), Err)
}

/// Each node, for programs.
type List = Vec<Map<String, Value>>;

/// What stands in the way, node by node.
fn refused(error: InitError) -> Result<(&'static str, List, Failure), Failure> {
    let (state, nodes, code, head, tail) = match error {
        InitError::AlreadyInitialized { nodes } => {
            let tail = "if all clients of these nodes are stopped, --force makes them a new cluster";
            ("not-empty", nodes, exit::CONFIG, "not all nodes are blank, so nothing was changed", tail)
        }
        InitError::Rejected { nodes, replies: report } => {
            let lines = report.nodes().iter().map(|it| format!("\n  {}  {}", it.node, answer_of(&it.reply)));
            let lines = lines.collect::<Vec<_>>().concat();
            let words = format!(
                "a cluster is declared on all its nodes, and not all took it:{lines}\nmend these, and run it again; \
                 with --force, if it then says that not all nodes are blank"
            );
            let is_refused = report.nodes().iter().any(|it| matches!(it.reply, Vote::Excluded(_)));
            let code = if is_refused { exit::REFUSED } else { exit::NO_QUORUM };
            let list = nodes.iter().zip(report.nodes()).map(|(node, it)| {
                let mut fields = nodes::json_of(node);
                let refusal = (it.reply != Vote::Granted).then(|| answer_of(&it.reply));
                fields.insert("refusal".to_owned(), json!(refusal));
                fields
            });
            return Ok(("rejected", list.collect(), Failure::new(code, words)));
        }
        InitError::Unreachable { nodes } => {
            let code = exit::of_bars(&nodes).unwrap_or(exit::NO_QUORUM);
            let is_gone = |node: &NodeStatus| !matches!(node.state, NodeState::Excluded(_) | NodeState::Up);
            let head = if nodes.iter().any(is_gone) {
                "a cluster is declared on all its nodes, and not all are there, so nothing was changed"
            } else {
                "a cluster is declared on all its nodes, and not all let us in, so nothing was changed"
            };
            ("unreachable", nodes, code, head, "mend these (`quorlock doctor` says how), and run it again")
        }
        InitError::Connect(error) => return Err(error.into()),
        error => return Err(Failure::new(exit::SOFTWARE, error.to_string())),
    };
    let lines = nodes.iter().map(|node| format!("\n  {}  {}", node.address, standing_of(node)));
    let words = format!("{head}:{}\n{tail}", lines.collect::<String>());
    Ok((state, nodes.iter().map(nodes::json_of).collect(), Failure::new(code, words)))
}

fn answer_of(vote: &Vote) -> String {
    match vote {
        Vote::Granted => "took it".to_owned(),
        Vote::Unknown(ReplyFailure::MarkerMismatch) => "was changed by others meanwhile".to_owned(),
        other => other.to_string(),
    }
}

fn standing_of(node: &NodeStatus) -> String {
    match &node.state {
        NodeState::Excluded(ExclusionReason::Uninitialized) => "uninitialized".to_owned(),
        NodeState::Unverified(None) => "up".to_owned(),
        _ => nodes::trouble_of(node).unwrap_or_else(|| "in a cluster on these terms".to_owned()),
    }
}

fn words_of(state: &str, nodes: &[NodeStatus], quorum: usize, spans: [Duration; 2]) -> String {
    let head =
        if state == "initialized" { "a new cluster" } else { "already a cluster; nothing was declared" };
    let [longest, keep] = spans.map(humantime::format_duration);
    let count = counted(nodes.len(), "node");
    let troubles = nodes.iter().filter_map(|node| Some((node, nodes::trouble_of(node)?)));
    let lines = troubles.map(|(node, trouble)| format!("{}  {trouble}\n", node.address));
    let mut text = format!(
        "{head}\n{count}, a quorum of {quorum}, a longest ttl of {longest}, fences kept for {keep}: give all \
         clients the same\n{}",
        lines.collect::<String>()
    );
    if state == "already-initialized" && nodes::voting(nodes) < quorum {
        let wait = nodes::quorum_in(nodes, quorum)
            .map_or_else(String::new, |wait| format!(" for {} more", nodes::span(wait)));
        let _ = writeln!(
            text,
            "too few nodes vote{wait}: wait for that; or, if nothing was ever locked on them, and no client runs, --force ends \
             their probation"
        );
    }
    text
}
