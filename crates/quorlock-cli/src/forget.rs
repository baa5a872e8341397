//! `quorlock forget`: removes the fences of free names, so that they take no memory on the nodes.

use std::time::Duration;

use quorlock::error::ForgetError;
use quorlock::node::{NodeReplies, NodeReply};
use serde::Serialize;

use crate::args::ForgetArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::output::{print, print_json};

pub(crate) async fn forget(args: ForgetArgs) -> Result<u8, Failure> {
    let Cluster { builder, .. } = config::cluster(args.nodes)?;
    let redlock = builder.read_only(true).connect_lazy()?;
    redlock.node_status().await;
    let mut code = 0;
    for name in &args.names {
        let forgotten = redlock.forget(name).await;
        let (outcome, replies, failure) = match &forgotten {
            Ok(replies) => ("forgotten", replies, None),
            Err(error @ ForgetError::HeldByOthers { replies, .. }) => {
                ("held", replies, Some((exit::CONTENDED, error)))
            }
            Err(error @ ForgetError::NoQuorum { replies, .. }) => {
                // Read afterwards, because only the replies may have shown that nodes exclude this client.
                let votes = replies.iter().map(|(_, reply)| reply);
                let code = exit::code_of_too_few(&redlock.node_status().await, votes, redlock.quorum());
                ("no_quorum", replies, Some((code, error)))
            }
            Err(error @ ForgetError::InvalidInput(_)) => {
                return Err(Failure::new(exit::USAGE, error.to_string()));
            }
            Err(error) => return Err(Failure::new(exit::SOFTWARE, error.to_string())),
        };
        if args.json {
            print_json(&NameReport { name, outcome, replies });
        } else if let Some((_, error)) = failure {
            exit::eprint_line(&error.to_string());
        } else {
            let (done, all) = (forgotten_on(replies), replies.len());
            print(&format!("{name:?} is forgotten on {done} of {all} nodes\n"));
        }
        // The largest code wins: an exclusion (77), then a held lock (75), then an outage (69).
        code = code.max(failure.map_or(0, |(code, _)| code));
    }
    // Requests to slow nodes must still be sent before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    Ok(code)
}

/// The number of nodes that forget the name, at the latest within the max ttl.
fn forgotten_on(replies: &NodeReplies) -> usize {
    let has_forgotten = |reply: &NodeReply| matches!(reply, NodeReply::Granted { .. } | NodeReply::NotHeld);
    replies.iter().filter(|(_, reply)| has_forgotten(reply)).count()
}

/// The result of one name as JSON.
#[derive(Serialize)]
struct NameReport<'a> {
    name: &'a str,
    outcome: &'static str,
    replies: &'a NodeReplies,
}

const DRAIN: Duration = Duration::from_secs(1);
