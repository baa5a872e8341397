//! `quorlock status` and `quorlock break`: a lock from the outside.

use std::time::Duration;

use quorlock::{Bar, Holder, Inspection, NodeStatus, Sighting, Vote};
use serde_json::json;

use crate::args::{BreakArgs, StatusArgs};
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};
use crate::nodes;
pub(crate) use crate::output::print;

/// A lock, and the nodes it stands on.
struct Scene {
    seen: Inspection,
    nodes: Vec<NodeStatus>,
}

pub(crate) async fn status(args: StatusArgs) -> Result<u8, Failure> {
    let redlock = config::cluster(args.nodes)?.builder.look_only().lazy()?;
    // All of them, not only the first that make a quorum: somebody wants to see each.
    let nodes = redlock.nodes().await;
    let scene = Scene { seen: redlock.inspect(&args.name).await?, nodes };
    let (verdict, code) = scene.verdict();
    print(&if args.json { scene.json_of(&args.name) } else { scene.table_of(&args.name, &verdict) });
    Ok(code)
}

pub(crate) async fn break_lock(BreakArgs { yes, lock: args }: BreakArgs) -> Result<u8, Failure> {
    if !yes {
        let words = format!(
            "{}: breaking it deletes its key on every node, whoever holds it, and a second holder may get in beside the \
             first: say --yes if you mean it",
            exit::lock(&args.name)
        );
        return Err(Failure::new(exit::USAGE, words));
    }
    let Cluster { builder, longest_ttl, .. } = config::cluster(args.nodes)?;
    let redlock = builder.look_only().lazy()?;
    let stand = redlock.nodes().await;
    let report = redlock.break_lock(&args.name).await?;
    // What slow nodes have not answered yet must still be written before this process ends.
    let _ = redlock.shutdown(DRAIN).await;
    let answers = report.nodes().iter().filter(|it| matches!(it.vote, Vote::Granted | Vote::Missing)).count();
    let all = report.nodes().len();
    // A key that stays on a minority can still be in the way; a key on a majority is a lock.
    let need = all / 2 + 1;
    let freed = report.nodes().iter().filter(|it| it.vote == Vote::Granted).count();
    if args.json {
        let nodes: Vec<_> = (report.nodes().iter())
            .map(|it| json!({ "node": &*it.node, "answer": it.vote.to_string(), "deleted": it.vote == Vote::Granted }))
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
        if answers >= need {
            let name = &args.name;
            print(&match freed {
                0 => format!("{name:?} was not locked: none of {answers} nodes had its key\n"),
                _ => format!("{name:?} is broken: its key was deleted on {freed} of {all} nodes\n"),
            });
        }
        if longest_ttl.is_none() && freed > 0 {
            let words = "plain: a holder that still lives takes it again at its next renewal: stop it";
            exit::say(&format!("{}: {words}", exit::lock(&args.name)));
        }
    }
    if answers >= need {
        return Ok(0);
    }
    let code = exit::of_too_few(&stand, report.nodes().iter().map(|it| &it.vote), need);
    let way = if code == exit::NO_QUORUM {
        "break it again when the others are back"
    } else {
        "the others refuse us"
    };
    let words =
        format!("not broken: {answers} of {all} nodes deleted its key, or had none, and {need} must; {way}");
    Err(Failure::new(code, format!("{}: {words}", exit::lock(&args.name))))
}

impl Scene {
    /// In words, and as an exit code: 0 free, 1 held.
    fn verdict(&self) -> (String, u8) {
        let quorum = self.seen.quorum;
        if let Some((mark, life)) = self.seen.holder() {
            let life = life.map_or_else(
                || "for ever".to_owned(),
                |life| format!("for {:.1} s more", life.as_secs_f64()),
            );
            (format!("held by #{mark} {life} (unless renewed)"), 1)
        } else if self.voices().filter(|sighting| sighting.holder == Holder::Nobody).count() >= quorum {
            ("free".to_owned(), 0)
        } else if self.voices().count() < quorum {
            // A wrong list and a refusal do not pass by themselves, where too few others are left.
            let votes = self.seen.nodes.iter().map(|sight| &sight.vote);
            let code = exit::of_too_few(&self.nodes, votes, quorum);
            (format!("unknown: {}", self.why_unknown()), code)
        } else {
            ("held: keys in the way, though nobody has a quorum".to_owned(), 1)
        }
    }

    /// What nodes show whose word counts: one that may have forgotten the key shows none too.
    fn voices(&self) -> impl Iterator<Item = &Sighting> {
        self.seen.nodes.iter().filter_map(|sight| match &sight.vote {
            Vote::Seen(sighting) if sight.votes => Some(sighting),
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
        let nodes = self.seen.nodes.iter().zip(&self.nodes).map(|(sight, node)| {
            let said = match &sight.vote {
                Vote::Barred(Bar::Blank) if is_to_mend => nodes::BLANK.to_owned(),
                vote => vote.to_string(),
            };
            // What is no sight says itself what is wrong.
            let trouble = nodes::trouble_of(node).filter(|_| matches!(sight.vote, Vote::Seen(_)));
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
                let more = match &sight.vote {
                    Vote::Seen(it) => {
                        let holder = match it.holder {
                            Holder::Owner(mark) => Some(mark.to_string()),
                            _ => None,
                        };
                        let left = it.remaining.map(|left| left.as_millis() as u64);
                        vec![
                            ("held", json!(it.holder != Holder::Nobody)),
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

const DRAIN: Duration = Duration::from_secs(1);
