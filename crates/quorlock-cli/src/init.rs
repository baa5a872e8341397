//! `quorlock init`: makes new servers a lock cluster.

use std::fmt::Write as _;
use std::time::Duration;

use quorlock::error::InitError;
use quorlock::node::{ExclusionReason, NodeReplies, NodeReply, NodeState, NodeStatus, ReplyFailure};
use quorlock::{InitOutcome, Mode, RedlockBuilder};
use quorlock_chaos::checker::counted;
use serde::Serialize;

use crate::args::InitArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::nodes::{self, NodeView};
use crate::output::{print, print_json};

pub(crate) async fn init(args: InitArgs) -> Result<u8, Failure> {
    let is_typed_plain = args.nodes.mode == Some(Mode::Plain);
    let Cluster { builder, quorum, max_ttl, fencing_retention, .. } = config::cluster(args.nodes.clone())?;
    let Some(max_ttl) = max_ttl else {
        return Err(exit::plain_mode(is_typed_plain, "initialize"));
    };
    let (outcome, nodes, replies, failure) = match initialized(builder.clone(), &args).await {
        Ok(init) => {
            let outcome =
                if init == InitOutcome::Initialized { "initialized" } else { "already_initialized" };
            // The state as a read-only client finds it.
            let nodes = builder.read_only(true).connect_lazy()?.node_status().await;
            (outcome, nodes, NodeReplies::default(), None)
        }
        Err(error) => {
            let (outcome, nodes, replies, failure) = failed(error, &args)?;
            (outcome, nodes, replies, Some(failure))
        }
    };
    if args.json {
        let [max_ttl_ms, fencing_retention_ms] =
            [max_ttl, fencing_retention].map(|span| span.as_millis() as u64);
        let nodes = nodes.iter().map(NodeView::from).collect();
        print_json(&InitReport { outcome, quorum, max_ttl_ms, fencing_retention_ms, nodes, replies });
    } else if failure.is_none() {
        let is_vacant = |node: &NodeStatus| node.seat.as_ref().is_some_and(|seat| seat.is_vacant);
        let head = match outcome {
            "initialized" if nodes.iter().any(is_vacant) => {
                "a lock cluster; the seats of nodes that could not be reached are vacant"
            }
            // It was founded, or has recovered.
            "initialized" if args.without_unreachable => "a lock cluster",
            "initialized" => "a new lock cluster",
            _ => "already a lock cluster; nothing was changed",
        };
        print(&summary(head, outcome, &nodes, quorum, [max_ttl, fencing_retention]));
    }
    failure.map_or(Ok(0), Err)
}

/// The result as JSON.
#[derive(Serialize)]
struct InitReport<'a> {
    outcome: &'static str,
    quorum: usize,
    max_ttl_ms: u64,
    fencing_retention_ms: u64,
    nodes: Vec<NodeView<'a>>,
    /// Why not all nodes were initialized. Empty if all were, or none.
    replies: NodeReplies,
}

async fn initialized(builder: RedlockBuilder, args: &InitArgs) -> Result<InitOutcome, InitError> {
    if args.force {
        return builder.force_initialize().await.map(|()| InitOutcome::Initialized);
    }
    if args.without_unreachable {
        return builder.initialize_without_unreachable().await;
    }
    builder.initialize().await
}

/// Why nothing was initialized, node by node.
fn failed(
    error: InitError,
    args: &InitArgs,
) -> Result<(&'static str, Vec<NodeStatus>, NodeReplies, Failure), Failure> {
    let (outcome, nodes, code, head, tail) = match error {
        InitError::AlreadyInitialized { nodes, .. } if nodes::has_other_list(&nodes) => {
            let tail = "give the list in force (host, port and database of each, or its --node-names); to change that list, see \
                        `quorlock reconfigure`; if all clients of these nodes are stopped, --force makes them a new lock cluster";
            let head = "nothing was changed: these nodes are not the list in force of their lock cluster";
            ("not_blank", nodes, exit::CONFIG, head, tail)
        }
        InitError::AlreadyInitialized { nodes, .. } => {
            let tail = "to change the nodes, the quorum or the max ttl of their lock cluster, see `quorlock reconfigure`; if all \
                        clients of these nodes are stopped, --force makes them a new lock cluster";
            let head = if args.without_unreachable {
                "nothing was changed: these nodes belong to a lock cluster with other settings, which are in force"
            } else {
                "nothing was changed: not all nodes are blank"
            };
            ("not_blank", nodes, exit::CONFIG, head, tail)
        }
        InitError::Rejected { nodes, replies, .. } => {
            let lines = replies.iter().map(|(node, reply)| format!("\n  {node}  {}", reply_of(reply)));
            let lines = lines.collect::<Vec<_>>().concat();
            let message = format!(
                "not initialized on all nodes:{lines}\nfix these and run this again; add --force if it then says that not all \
                 nodes are blank"
            );
            let is_excluded = replies.iter().any(|(_, reply)| matches!(reply, NodeReply::Excluded(_)));
            let code = if is_excluded { exit::EXCLUDED } else { exit::NO_QUORUM };
            return Ok(("rejected", nodes, replies, Failure::new(code, message)));
        }
        InitError::Unreachable { nodes, .. } => {
            let code = exit::code_of_exclusions(&nodes).unwrap_or(exit::NO_QUORUM);
            let is_down = |node: &NodeStatus| !matches!(node.state, NodeState::Excluded(_) | NodeState::Up);
            let head = if args.without_unreachable {
                "not all of the nodes that reply have a seat, and a quorum must"
            } else if nodes.iter().any(is_down) {
                "nothing was changed: not all nodes are up, and all must be"
            } else {
                "nothing was changed: not all nodes admit this client, and all must"
            };
            let tail = if args.force || args.without_unreachable {
                "fix these (`quorlock doctor` says how) and run this again"
            } else {
                "fix these (`quorlock doctor` says how) and run this again; or, if the servers that cannot be reached are \
                 off, add --without-unreachable"
            };
            ("unreachable", nodes, code, head, tail)
        }
        InitError::Connect(error) => return Err(error.into()),
        error => return Err(Failure::new(exit::SOFTWARE, error.to_string())),
    };
    let lines = nodes.iter().map(|node| format!("\n  {}  {}", node.address, state_of(node)));
    let message = format!("{head}:{}\n{tail}", lines.collect::<String>());
    Ok((outcome, nodes, NodeReplies::default(), Failure::new(code, message)))
}

fn reply_of(reply: &NodeReply) -> String {
    match reply {
        NodeReply::Granted { .. } => "initialized".to_owned(),
        NodeReply::Failed(ReplyFailure::MarkerMismatch) => "changed by another client meanwhile".to_owned(),
        other => other.to_string(),
    }
}

fn state_of(node: &NodeStatus) -> String {
    match &node.state {
        NodeState::Excluded(ExclusionReason::Uninitialized) => "uninitialized".to_owned(),
        NodeState::Unverified(None) => "up".to_owned(),
        _ => nodes::problem_of(node).unwrap_or_else(|| {
            let settings = node.seat.as_ref().map(|seat| format!(" with {}", seat.settings));
            format!("in a lock cluster{}", settings.unwrap_or_default())
        }),
    }
}

fn summary(
    head: &str,
    outcome: &str,
    nodes: &[NodeStatus],
    quorum: usize,
    durations: [Duration; 2],
) -> String {
    let [max_ttl, retention] = durations.map(humantime::format_duration);
    let count = counted(nodes.len(), "node");
    let problems = nodes.iter().filter_map(|node| Some((node, nodes::problem_of(node)?)));
    let lines = problems.map(|(node, problem)| format!("{}  {problem}\n", node.address));
    let mut text = format!(
        "{head}\n{count}, a quorum of {quorum}, a max ttl of {max_ttl}, fences kept for {retention}: give all \
         clients the same settings\n{}",
        lines.collect::<String>()
    );
    if outcome == "already_initialized" && nodes::voting(nodes) < quorum {
        let wait = nodes::quorum_in(nodes, quorum)
            .map_or_else(String::new, |wait| format!(" for {} more", nodes::span(wait)));
        let _ = writeln!(
            text,
            "too few nodes vote{wait}: wait until then; or, if no lock was ever held on them and no client runs, --force \
             ends their probation"
        );
    }
    text
}
