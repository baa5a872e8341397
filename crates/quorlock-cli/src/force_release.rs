//! `quorlock force-release`: frees a lock that another process holds, or only if one named holder does.

use std::time::Duration;

use quorlock::inspect::{Inspection, KeyOwner, OwnerHash};
use quorlock::node::{NodeReplies, NodeReply, NodeStatus};
use serde::Serialize;

use crate::args::ForceReleaseArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::output::{print, print_json};

pub(crate) async fn force_release(
    ForceReleaseArgs { yes, if_holder, lock: args }: ForceReleaseArgs,
) -> Result<u8, Failure> {
    if !yes {
        let message = format!(
            "{}: not released: its holder may still be working, and a second one may get in beside it; add --yes to delete \
             the key on every node",
            exit::lock(&args.name)
        );
        return Err(Failure::new(exit::USAGE, message));
    }
    let Cluster { builder, quorum, max_ttl, .. } = config::cluster(args.nodes)?;
    let redlock = builder.read_only(true).connect_lazy()?;
    let statuses = redlock.node_status().await;
    // Only for messages: the key may have changed when it is deleted.
    let is_no_lock = if_holder.is_none() && is_no_lock(&redlock.inspect(&args.name).await?);
    let replies = match if_holder {
        Some(holder) => redlock.force_release_of(&args.name, holder).await?,
        None => redlock.force_release(&args.name).await?,
    };
    // Requests to slow nodes must still be sent before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    let count = |matches: fn(&NodeReply) -> bool| replies.iter().filter(|(_, reply)| matches(reply)).count();
    let release = Release {
        name: &args.name,
        holder: if_holder,
        is_plain: max_ttl.is_none(),
        is_not_a_lock: is_no_lock,
        quorum,
        all: replies.len(),
        freed: count(|reply| matches!(reply, NodeReply::Granted { .. })),
        missing: count(|reply| *reply == NodeReply::NotHeld),
        of_others: count(|reply| matches!(reply, NodeReply::HeldByOther { .. })),
    };
    let outcome = release.outcome(&statuses, &replies);
    if args.json {
        let outcome = match &outcome {
            Ok(_) if release.freed > 0 => "released",
            Ok(_) => "not_held",
            Err(Failure { code: exit::CONTENDED, .. }) => "another_holder",
            Err(_) => "not_released",
        };
        print_json(&ReleaseReport { name: &args.name, outcome, deleted: release.freed, replies: &replies });
    } else {
        let lines = replies.iter().map(|(node, reply)| format!("{node}  {}\n", text_of(reply)));
        print(&lines.collect::<Vec<_>>().concat());
        if let Ok(message) = &outcome {
            print(&format!("{message}\n"));
        }
        if release.is_plain && release.freed > 0 && !release.is_not_a_lock {
            let message = "plain mode: a live holder takes it again at its next renewal, within a third of its ttl; stop it, then \
                         check with `quorlock status`";
            exit::eprint_line(&format!("{}: {message}", exit::lock(&args.name)));
        }
    }
    outcome.map(|_| 0)
}

/// The result of a release.
struct Release<'a> {
    name: &'a str,
    /// With --if-holder: the only holder whose lock may be released.
    holder: Option<OwnerHash>,
    is_plain: bool,
    /// Whether every key found was of another type, so that no client held the lock.
    is_not_a_lock: bool,
    quorum: usize,
    all: usize,
    /// The number of nodes where the key was deleted, was missing, belonged to another holder.
    freed: usize,
    missing: usize,
    of_others: usize,
}

impl Release<'_> {
    /// The message if the lock is released, or was not held.
    fn outcome(&self, statuses: &[NodeStatus], report: &NodeReplies) -> Result<String, Failure> {
        let Self { name, freed, all, .. } = *self;
        let (replies, needed) = (freed + self.missing + self.of_others, self.needed());
        let Some(holder) = self.holder else {
            if replies < needed {
                let message =
                    format!("{replies} of {all} nodes deleted its key, or had none, and {needed} must");
                return Err(self.too_few(needed, &message, statuses, report));
            }
            return Ok(match freed {
                0 => format!("{name:?} was not locked: none of {replies} nodes had its key"),
                _ => format!(
                    "{name:?} is released: its key was deleted on {freed} of {all} nodes{}",
                    self.next_step()
                ),
            });
        };
        // A node without the key may grant it again, but the nodes that keep it must not be a quorum.
        if freed >= needed || freed > 0 && replies == all {
            let message =
                format!("{name:?} of #{holder} is released: its key was deleted on {freed} of {all} nodes");
            return Ok(message + self.next_step());
        }
        if freed > 0 || replies <= all / 2 {
            let message =
                format!("the key of #{holder} was deleted on {freed} of {all} nodes, and {needed} must");
            return Err(self.too_few(needed, &message, statuses, report));
        }
        if self.of_others > 0 {
            let message =
                format!("not released: another holder than #{holder} has it; see `quorlock status`");
            return Err(Failure::new(exit::CONTENDED, format!("{}: {message}", exit::lock(name))));
        }
        Ok(format!("{name:?} is not held by #{holder} any more: nothing was deleted"))
    }

    /// The number of nodes that must delete the key. Without --if-holder: a majority,
    /// because a key on a majority is a lock, and on a minority it can only be in the way.
    /// With it: so many that the others are no quorum.
    fn needed(&self) -> usize {
        match self.holder {
            Some(_) => self.all - self.quorum + 1,
            None => self.all / 2 + 1,
        }
    }

    /// The next action of a live holder. That a plain holder must be stopped is a separate message.
    fn next_step(&self) -> &'static str {
        if self.is_not_a_lock {
            "; it was of another type, not a lock"
        } else if self.is_plain {
            ""
        } else {
            "; a live holder learns this at its next renewal, within a third of its ttl, and does not take it again"
        }
    }

    fn too_few(
        &self,
        needed: usize,
        message: &str,
        statuses: &[NodeStatus],
        report: &NodeReplies,
    ) -> Failure {
        let code = exit::code_of_too_few(statuses, report.iter().map(|(_, reply)| reply), needed);
        let advice = if code == exit::NO_QUORUM {
            "run this again when the other nodes are back"
        } else {
            "the other nodes exclude this client"
        };
        Failure::new(code, format!("{}: not released: {message}; {advice}", exit::lock(self.name)))
    }
}

fn is_no_lock(inspection: &Inspection) -> bool {
    let held = inspection.nodes.iter().filter_map(|node| match &node.reply {
        NodeReply::Inspected(it) if it.holder != KeyOwner::Unheld => Some(it.holder),
        _ => None,
    });
    let mut held = held.peekable();
    held.peek().is_some() && held.all(|holder| holder == KeyOwner::NotALock)
}

fn text_of(reply: &NodeReply) -> String {
    match reply {
        NodeReply::Granted { .. } => "deleted".to_owned(),
        NodeReply::NotHeld => "not held".to_owned(),
        NodeReply::HeldByOther { .. } => "of another holder, left alone".to_owned(),
        other => other.to_string(),
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct ReleaseReport<'a> {
    name: &'a str,
    outcome: &'static str,
    deleted: usize,
    replies: &'a NodeReplies,
}

const DRAIN: Duration = Duration::from_secs(1);
