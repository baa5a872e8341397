//! `quorlock forget`: removes the fences of free names, so that they take no memory on the nodes.

use std::time::Duration;

use quorlock::error::ForgetError;
use quorlock::node::{NodeReplies, NodeReply};
use serde_json::json;

use crate::args::ForgetArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::status::print;

pub(crate) async fn forget(args: ForgetArgs) -> Result<u8, Failure> {
    let Cluster { builder, quorum, .. } = config::cluster(args.nodes)?;
    let redlock = builder.read_only(true).connect_lazy()?;
    redlock.node_status().await;
    let mut code = 0;
    for name in &args.names {
        let forgotten = redlock.forget(name).await;
        let (outcome, report, failure) = match &forgotten {
            Ok(report) => ("forgotten", report, None),
            Err(error @ ForgetError::HeldByOthers { replies: report, .. }) => {
                ("held", report, Some((exit::CONTENDED, error)))
            }
            Err(error @ ForgetError::NoQuorum { replies: report, .. }) => {
                // Read afterwards, because only the replies may have shown that nodes exclude this client.
                let votes = report.iter().map(|(_, reply)| reply);
                let code = exit::code_of_too_few(&redlock.node_status().await, votes, quorum);
                ("no quorum", report, Some((code, error)))
            }
            Err(error @ ForgetError::InvalidInput(_)) => {
                return Err(Failure::new(exit::USAGE, error.to_string()));
            }
            Err(error) => return Err(Failure::new(exit::SOFTWARE, error.to_string())),
        };
        if args.json {
            print(&json_of(name, outcome, report));
        } else if let Some((_, error)) = failure {
            exit::eprint_line(&error.to_string());
        } else {
            let (done, all) = (is_complete(report), report.len());
            print(&format!("{name:?} is forgotten on {done} of {all} nodes\n"));
        }
        // The largest code wins: an exclusion (77), then a held lock (75), then an outage (69).
        code = code.max(failure.map_or(0, |(code, _)| code));
    }
    // Requests to slow nodes must still be sent before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    Ok(code)
}

fn is_complete(report: &NodeReplies) -> usize {
    report.iter().filter(|(_, reply)| has_forgotten(reply)).count()
}

/// Whether the node forgets the name, at the latest within the max ttl.
const fn has_forgotten(reply: &NodeReply) -> bool {
    matches!(reply, NodeReply::Granted { .. } | NodeReply::NotHeld)
}

/// The result of one name as a line of JSON.
fn json_of(name: &str, outcome: &str, report: &NodeReplies) -> String {
    let nodes: Vec<_> = (report.iter())
        .map(|(node, reply)| {
            json!({ "node": node, "forgotten": has_forgotten(reply), "reply": reply.to_string() })
        })
        .collect();
    format!("{}\n", json!({ "name": name, "outcome": outcome, "nodes": nodes }))
}

const DRAIN: Duration = Duration::from_secs(1);
