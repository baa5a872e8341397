//! `quorlock force-release`: a lock is freed, whoever holds it, or if one holder does.

use std::time::Duration;

use quorlock::{Inspection, KeyOwner, NodeReplies, NodeStatus, OwnerHash, Vote};
use serde_json::json;

use crate::args::ForceReleaseArgs;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::status::print;

pub(crate) async fn force_release(
    ForceReleaseArgs { yes, if_holder, lock: args }: ForceReleaseArgs,
) -> Result<u8, Failure> {
    if !yes {
        let words = format!(
            "{}: breaking it deletes its key on every node, whoever holds it, and a second holder may get in beside the \
             first: say --yes if you mean it",
            exit::lock(&args.name)
        );
        return Err(Failure::new(exit::USAGE, words));
    }
    let Cluster { builder, quorum, max_ttl, .. } = config::cluster(args.nodes)?;
    let redlock = builder.read_only().connect_lazy()?;
    let stand = redlock.node_status().await;
    // Only for words: what is broken may be another key by then.
    let is_no_lock = if_holder.is_none() && is_no_lock(&redlock.inspect(&args.name).await?);
    let report = match if_holder {
        Some(mark) => redlock.force_release_of(&args.name, mark).await?,
        None => redlock.force_release(&args.name).await?,
    };
    // What slow nodes have not answered yet must still be written before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    let count = |is: fn(&Vote) -> bool| report.nodes().iter().filter(|it| is(&it.reply)).count();
    let broken = Broken {
        name: &args.name,
        holder: if_holder,
        is_plain: max_ttl.is_none(),
        is_no_lock,
        quorum,
        all: report.nodes().len(),
        freed: count(|vote| *vote == Vote::Granted),
        missing: count(|vote| *vote == Vote::NotHeld),
        of_others: count(|vote| matches!(vote, Vote::HeldByOther { .. })),
    };
    let outcome = broken.outcome(&stand, &report);
    if args.json {
        print(&json_of(&broken, &report, outcome.as_ref().err()));
    } else {
        let lines = report.nodes().iter().map(|it| format!("{}  {}\n", it.node, words_of(&it.reply)));
        print(&lines.collect::<Vec<_>>().concat());
        if let Ok(words) = &outcome {
            print(&format!("{words}\n"));
        }
        if broken.is_plain && broken.freed > 0 && !broken.is_no_lock {
            let words = "plain: a holder that still lives takes it again at its next renewal, within a third of its ttl: stop \
                         it, and look again with `quorlock status`";
            exit::say(&format!("{}: {words}", exit::lock(&args.name)));
        }
    }
    outcome.map(|_| 0)
}

/// What came of it.
struct Broken<'a> {
    name: &'a str,
    /// Whose lock alone was to be broken.
    holder: Option<OwnerHash>,
    is_plain: bool,
    /// Whether its key was of another type wherever it was, so that nobody held it.
    is_no_lock: bool,
    quorum: usize,
    all: usize,
    /// On how many nodes its key was deleted, was not there, was another's.
    freed: usize,
    missing: usize,
    of_others: usize,
}

impl Broken<'_> {
    /// In words if the lock is broken, or was none.
    fn outcome(&self, stand: &[NodeStatus], report: &NodeReplies) -> Result<String, Failure> {
        let Self { name, freed, all, .. } = *self;
        let (answers, need) = (freed + self.missing + self.of_others, self.need());
        let Some(mark) = self.holder else {
            if answers < need {
                let words = format!("{answers} of {all} nodes deleted its key, or had none, and {need} must");
                return Err(self.too_few(need, &words, stand, report));
            }
            return Ok(match freed {
                0 => format!("{name:?} was not locked: none of {answers} nodes had its key"),
                _ => format!(
                    "{name:?} is broken: its key was deleted on {freed} of {all} nodes{}",
                    self.then()
                ),
            });
        };
        // A node where its key is missing may grant it again, but all that are left must not be a quorum.
        if freed >= need || freed > 0 && answers == all {
            let words =
                format!("{name:?} of #{mark} is broken: its key was deleted on {freed} of {all} nodes");
            return Ok(words + self.then());
        }
        if freed > 0 || answers <= all / 2 {
            let words = format!("the key of #{mark} was deleted on {freed} of {all} nodes, and {need} must");
            return Err(self.too_few(need, &words, stand, report));
        }
        if self.of_others > 0 {
            let words = format!(
                "held by another than #{mark} by now, so nothing was deleted; `quorlock status` shows the holder"
            );
            return Err(Failure::new(exit::HELD, format!("{}: {words}", exit::lock(name))));
        }
        Ok(format!("{name:?} is not held by #{mark} any more: nothing was deleted"))
    }

    /// On how many nodes. Any break: a majority, for a key that stays on a minority can still be in the way, and one on a
    /// majority is a lock. One holder's: so many that the others are no quorum.
    fn need(&self) -> usize {
        match self.holder {
            Some(_) => self.all - self.quorum + 1,
            None => self.all / 2 + 1,
        }
    }

    /// What a holder that lives does. One of a plain lock has to be stopped, which is said beside.
    fn then(&self) -> &'static str {
        if self.is_no_lock {
            "; it was of another type, and no lock"
        } else if self.is_plain {
            ""
        } else {
            "; a holder that lives is told at its next renewal, within a third of its ttl, and does not take it again"
        }
    }

    fn too_few(&self, need: usize, words: &str, stand: &[NodeStatus], report: &NodeReplies) -> Failure {
        let code = exit::of_too_few(stand, report.nodes().iter().map(|it| &it.reply), need);
        let way = if code == exit::NO_QUORUM {
            "break it again when the others are back"
        } else {
            "the others refuse us"
        };
        Failure::new(code, format!("{}: not broken: {words}; {way}", exit::lock(self.name)))
    }
}

fn is_no_lock(seen: &Inspection) -> bool {
    let held = seen.nodes.iter().filter_map(|sight| match &sight.reply {
        Vote::Inspected(it) if it.holder != KeyOwner::Unheld => Some(it.holder),
        _ => None,
    });
    let mut held = held.peekable();
    held.peek().is_some() && held.all(|holder| holder == KeyOwner::NotALock)
}

fn words_of(vote: &Vote) -> String {
    match vote {
        Vote::Granted => "deleted".to_owned(),
        Vote::NotHeld => "was not there".to_owned(),
        Vote::HeldByOther { .. } => "another's, left alone".to_owned(),
        other => other.to_string(),
    }
}

fn json_of(broken: &Broken<'_>, report: &NodeReplies, failure: Option<&Failure>) -> String {
    let nodes: Vec<_> = (report.nodes().iter())
        .map(|it| json!({ "node": &*it.node, "answer": words_of(&it.reply), "deleted": it.reply == Vote::Granted }))
        .collect();
    let outcome = match failure {
        None if broken.freed > 0 => "broken",
        None => "not held",
        Some(Failure { code: exit::HELD, .. }) => "another holder",
        Some(_) => "not broken",
    };
    let all = json!({ "name": broken.name, "outcome": outcome, "deleted": broken.freed, "nodes": nodes });
    format!("{all}\n")
}

const DRAIN: Duration = Duration::from_secs(1);
