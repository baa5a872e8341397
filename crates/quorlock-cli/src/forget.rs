//! `quorlock forget`: names that do not come again take no room on the nodes.

use std::time::Duration;

use quorlock::{ForgetError, NodeReplies, Vote};
use serde_json::json;

use crate::args::ForgetArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::status::print;

pub(crate) async fn forget(args: ForgetArgs) -> Result<u8, Failure> {
    let Cluster { builder, quorum, .. } = config::cluster(args.nodes)?;
    let redlock = builder.read_only().connect_lazy()?;
    redlock.node_status().await;
    let mut code = 0;
    for name in &args.names {
        let forgotten = redlock.forget(name).await;
        let (outcome, report, why) = match &forgotten {
            Ok(report) => ("forgotten", report, None),
            Err(error @ ForgetError::HeldByOthers { replies: report, .. }) => {
                ("held", report, Some((exit::CONTENDED, error)))
            }
            Err(error @ ForgetError::NoQuorum { replies: report, .. }) => {
                // Asked afterwards: what too few nodes have answered may be what shows that they refuse us.
                let votes = report.nodes().iter().map(|it| &it.reply);
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
        } else if let Some((_, error)) = why {
            exit::eprint_line(&error.to_string());
        } else {
            let (done, all) = (done(report), report.nodes().len());
            print(&format!("{name:?} is forgotten on {done} of {all} nodes\n"));
        }
        // The larger is the more telling: a refusal, before one that is held, before an outage.
        code = code.max(why.map_or(0, |(code, _)| code));
    }
    // What slow nodes have not answered yet must still be written before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    Ok(code)
}

fn done(report: &NodeReplies) -> usize {
    report.nodes().iter().filter(|it| has_forgotten(&it.reply)).count()
}

/// Or will have, within the longest ttl.
const fn has_forgotten(vote: &Vote) -> bool {
    matches!(vote, Vote::Granted | Vote::NotHeld)
}

/// A line for each name.
fn json_of(name: &str, outcome: &str, report: &NodeReplies) -> String {
    let nodes: Vec<_> = (report.nodes().iter())
        .map(|it| {
            let is_forgotten = has_forgotten(&it.reply);
            json!({ "node": &*it.node, "forgotten": is_forgotten, "reply": it.reply.to_string() })
        })
        .collect();
    format!("{}\n", json!({ "name": name, "outcome": outcome, "nodes": nodes }))
}

const DRAIN: Duration = Duration::from_secs(1);
