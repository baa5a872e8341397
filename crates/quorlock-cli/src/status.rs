//! `quorlock status` and `quorlock break`: a lock from the outside.

use std::io::{self, Write};
use std::time::Duration;

use quorlock::{Inspection, Vote};
use serde_json::json;

use crate::args::{BreakArgs, StatusArgs};
use crate::config;
use crate::exit::{self, Failure};

pub(crate) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let redlock = config::builder(args.nodes)?.lazy()?;
    // All of them, not only the first that make a quorum: somebody wants to see each.
    redlock.nodes().await;
    let seen = redlock.inspect(&args.name).await?;
    let (verdict, code) = verdict(&seen);
    print(&if args.json { json_of(&args.name, &seen) } else { table_of(&args.name, &seen, &verdict) });
    Ok(code)
}

pub(crate) async fn break_lock(BreakArgs { yes, lock: args }: BreakArgs) -> Result<u8, Failure> {
    if !yes {
        let words = format!(
            "this would delete {:?} on every node, whoever holds it, and a second holder could get in beside the \
             first: say --yes if you mean it",
            args.name
        );
        return Err(Failure::new(exit::USAGE, words));
    }
    let redlock = config::builder(args.nodes)?.lazy()?;
    redlock.nodes().await;
    let report = redlock.break_lock(&args.name).await?;
    // What slow nodes have not answered yet must still be written before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    let answers = || report.nodes().iter().filter(|it| matches!(it.vote, Vote::Granted | Vote::Missing));
    let freed = report.nodes().iter().filter(|it| it.vote == Vote::Granted).count();
    if args.json {
        let nodes: Vec<_> = (report.nodes().iter())
            .map(|it| json!({ "node": it.node, "answer": it.vote.to_string(), "deleted": it.vote == Vote::Granted }))
            .collect();
        print(&format!("{}\n", json!({ "name": args.name, "deleted": freed, "nodes": nodes })));
    } else {
        let lines = report.nodes().iter().map(|it| {
            let words = match &it.vote {
                Vote::Granted => "deleted".to_owned(),
                Vote::Missing => "was not there".to_owned(),
                other => other.to_string(),
            };
            format!("{}  {words}\n", it.node)
        });
        print(&lines.collect::<Vec<_>>().concat());
    }
    // A key that stays on a minority can still be in the way; a key on a majority is a lock.
    if answers().count() * 2 > report.nodes().len() { Ok(0) } else { Ok(exit::NO_QUORUM) }
}

/// In words, and as an exit code: 0 free, 1 held.
fn verdict(seen: &Inspection) -> (String, u8) {
    let answers = seen.answers();
    if let Some((mark, life)) = seen.holder() {
        let life = life
            .map_or_else(|| "for ever".to_owned(), |life| format!("for {:.1} s more", life.as_secs_f64()));
        (format!("held by #{mark} {life} (unless renewed)"), 1)
    } else if seen.is_free() {
        ("free".to_owned(), 0)
    } else if answers < seen.quorum {
        let barred = seen.nodes.iter().filter(|sight| matches!(sight.vote, Vote::Barred(_))).count();
        let is_refused = barred > seen.nodes.len() - seen.quorum;
        (
            format!("unknown: {answers} of {} nodes answered, {} are needed", seen.nodes.len(), seen.quorum),
            if is_refused { exit::REFUSED } else { exit::NO_QUORUM },
        )
    } else {
        ("held: keys in the way, though nobody has a quorum".to_owned(), 1)
    }
}

fn table_of(name: &str, seen: &Inspection, verdict: &str) -> String {
    let width = seen.nodes.iter().map(|sight| sight.node.len()).max().unwrap_or(0);
    let nodes = seen.nodes.iter().map(|sight| format!("{:width$}  {}\n", sight.node, sight.vote));
    nodes.chain([format!("{name:?} is {verdict}\n")]).collect()
}

fn json_of(name: &str, seen: &Inspection) -> String {
    let (verdict, code) = verdict(seen);
    let nodes: Vec<_> = (seen.nodes.iter())
        .map(|sight| match &sight.vote {
            Vote::Seen(it) => {
                let holder = match it.holder {
                    quorlock::Holder::Owner(mark) => Some(mark.to_string()),
                    _ => None,
                };
                let is_held = it.holder != quorlock::Holder::Nobody;
                let left = it.remaining.map(|left| left.as_millis() as u64);
                json!({ "node": sight.node, "held": is_held, "holder": holder, "remaining_ms": left })
            }
            other => json!({ "node": sight.node, "error": other.to_string() }),
        })
        .collect();
    let state = match code {
        0 => "free",
        1 => "held",
        _ => "unknown",
    };
    let holder = seen.holder().map(|(mark, _)| mark.to_string());
    let left = seen.holder().and_then(|(_, left)| left).map(|left| left.as_millis() as u64);
    let all = json!({
        "name": name, "state": state, "verdict": verdict, "holder": holder, "remaining_ms": left,
        "quorum": seen.quorum, "nodes": nodes,
    });
    format!("{all}\n")
}

/// Writes to stdout; a reader who has gone away is no failure.
pub(crate) fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

const DRAIN: Duration = Duration::from_secs(1);
