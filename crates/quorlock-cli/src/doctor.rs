//! `quorlock doctor`: every node checked, every fault with its remedy.

use std::time::Duration;

use quorlock::{AcquireError, DialStep, ExclusionReason, Fences, NodeState, NodeStatus, Vote};
use quorlock_chaos::checker::counted;
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::config::{self, Cluster};
use crate::exit::Failure;
use crate::nodes::{self, state_for_people};
use crate::status::print;

/// Something about the nodes, and what to do about it.
struct Finding {
    /// Whether it makes the doctor fail, or is only good to know.
    is_fault: bool,
    words: String,
}

pub(crate) async fn doctor(args: DoctorArgs) -> Result<u8, Failure> {
    let Cluster { builder, quorum, max_ttl, .. } = config::cluster(args.nodes)?;
    // A visit must not make blank servers a cluster.
    let redlock = builder.read_only().connect_lazy()?;
    // Each is heard before the probe, which would make do with the first that answer.
    redlock.node_status().await;
    // A lock that is taken for a moment shows whether this user may run all that a lock needs.
    let ttl = max_ttl.map_or(PROBE_TTL, |longest| longest.min(PROBE_TTL));
    let probed = match redlock.mutex(&args.probe).ttl(ttl).try_acquire().await {
        Ok(Some(guard)) => {
            guard.release().await.map(drop).map_err(|error| Broken::Release(error.to_string()))
        }
        // Another doctor is at it.
        Ok(None) => Ok(()),
        Err(error @ AcquireError::InvalidInput(_)) => return Err(error.into()),
        Err(error) => Err(Broken::Acquire(error.to_string())),
    };
    let probe = redlock.inspect(&args.probe).await?;
    // Plain clients have nothing to forget.
    let _ = redlock.forget(&args.probe).await;
    let nodes = redlock.node_status().await;
    let _ = redlock.shutdown(DRAIN).await;
    let is_undeclared = nodes::are_undeclared(&nodes);
    let alone = nodes::without_the_others(&nodes, quorum);
    let to_mend = nodes::first_to_mend(&nodes).filter(|_| alone.is_none());
    let examined = nodes.iter().map(|node| examine(node, (is_undeclared, to_mend.is_some()), max_ttl));
    let mut findings: Vec<Vec<Finding>> = examined.collect();
    if alone.is_some() {
        for (node, findings) in nodes.iter().zip(&mut findings) {
            match &node.state {
                NodeState::Excluded(ExclusionReason::Uninitialized) => {
                    findings[0] = fault(nodes::NEW.to_owned())
                }
                NodeState::Excluded(ExclusionReason::ClusterMismatch(_)) => {
                    findings[0] = note(nodes::ALONE.to_owned())
                }
                _ => {}
            }
        }
    }
    let has_lock = !matches!(probed, Err(Broken::Acquire(_)));
    for (place, sight) in probe.nodes.iter().enumerate() {
        if let (NodeState::Up, Vote::Excluded(bar)) = (&nodes[place].state, &sight.reply) {
            findings[place].push(fault(remedy(bar)));
        }
    }
    let mut general = Vec::new();
    if let (true, Some(first)) = (is_undeclared, &to_mend) {
        let words = "nobody declared these nodes a cluster";
        general.push(fault(format!("{words}; {first}; then run `quorlock init` once")));
    } else if is_undeclared {
        let longest = humantime::format_duration(max_ttl.unwrap_or_default());
        general.push(fault(format!(
            "nobody declared these nodes a cluster: run `quorlock init` once; else the first client does it, and no \
             lock can be had for the longest ttl ({longest})"
        )));
    } else if let Some(words) = alone {
        general.push(fault(format!("no lock can be had: {words}")));
    } else {
        let first = to_mend.filter(|_| nodes.iter().any(nodes::waits_for_others));
        general.extend(no_locks(&nodes, quorum, probed).map(|finding| match first {
            Some(first) => fault(format!("{}; {first}", finding.words)),
            None => finding,
        }));
    }
    if findings.iter().flatten().any(lacks_rights) {
        general.push(fault(RIGHTS.to_owned()));
    }
    if nodes.len() % 2 == 0 {
        general.push(note("an even number of nodes survives no more losses than one node fewer".to_owned()));
    }
    if nodes.len() == 1 {
        general.push(note(
            "a single node is a single point of failure: three or five survive the loss of some".to_owned(),
        ));
    }
    let is_well = general.iter().chain(findings.iter().flatten()).all(|finding| !finding.is_fault);
    if args.json {
        let at_all = json!({ "healthy": is_well, "quorum": quorum, "votes": nodes::voting(&nodes), "lock_can_be_had": has_lock });
        print(&json_of(at_all, &nodes, &findings, &general));
    } else {
        print(&table_of(&nodes, &findings, &general, is_well));
    }
    Ok(u8::from(!is_well))
}

/// What a lock that is taken for a moment comes to grief over.
enum Broken {
    Acquire(String),
    Release(String),
}

/// Why no lock can be had at all, or given back, if none can.
fn no_locks(nodes: &[NodeStatus], quorum: usize, probed: Result<(), Broken>) -> Option<Finding> {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    let (voting, all) = (nodes::voting(nodes), nodes.len());
    if up < quorum {
        return Some(fault(format!("{up} of {all} nodes can vote and {quorum} must: no lock can be had")));
    }
    if voting < quorum {
        let wait = nodes::quorum_in(nodes, quorum);
        let span = wait.map_or_else(String::new, |wait| format!(" for {} more", nodes::span(wait)));
        let words = format!("{voting} of {all} nodes vote and {quorum} must: no lock can be had{span}");
        // In an outage the first thing to do is to wait.
        return Some(fault(match wait {
            Some(wait) => format!(
                "{words}: wait for that; or, if the cluster is new and nothing was ever locked on it, `quorlock init --force` \
                 ends it{}",
                if wait.is_zero() { " at once" } else { "" }
            ),
            None => words,
        }));
    }
    probed.err().map(|broken| {
        fault(match broken {
            Broken::Acquire(words) => format!("no lock can be had though enough nodes vote: {words}"),
            Broken::Release(words) => {
                format!(
                    "a lock can be had and not given back, so that it stands until its ttl is over: {words}"
                )
            }
        })
    })
}

/// What is to be said of a node, beside others of which none knows a cluster, or some are to be mended first.
fn examine(
    node: &NodeStatus,
    (is_undeclared, is_to_mend): (bool, bool),
    max_ttl: Option<Duration>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &node.state {
        NodeState::Down(why) => findings.push(fault(format!("{why}{}", way_to(node.failed_step)))),
        // Said once for all.
        NodeState::Excluded(ExclusionReason::Uninitialized) if is_undeclared => {}
        NodeState::Excluded(ExclusionReason::Uninitialized) if is_to_mend => {
            findings.push(fault(nodes::BLANK.to_owned()))
        }
        NodeState::Unverified(None) if is_to_mend => findings.extend(nodes::trouble_of(node).map(fault)),
        // Said below, with the policy's name.
        NodeState::Excluded(ExclusionReason::EvictionEnabled)
            if node.warnings.iter().any(|it| it.contains("maxmemory-policy")) => {}
        NodeState::Excluded(bar) => findings.push(fault(remedy(bar))),
        NodeState::Unverified(Some(refusal)) => findings.push(fault(refusal.to_string())),
        // It passes by itself.
        NodeState::Up | NodeState::Unverified(None) => findings.extend(nodes::trouble_of(node).map(note)),
        _ => findings.push(fault("no answer yet: is it hung?".to_owned())),
    }
    findings.extend(node.warnings.iter().cloned().map(fault));
    findings.extend(node.clock_ahead_micros.and_then(|micros| clock_finding(micros, max_ttl)));
    if node.persistence.starts_with("no ") {
        findings.push(note(
            "forgets its locks, its fencing numbers and its cluster when it restarts: use appendonly yes with \
             appendfsync always"
                .to_owned(),
        ));
    }
    findings
}

/// What it means that a node's clock is so far from ours. Locks go by its speed alone; the order of fencing numbers does
/// not, once nodes lose them (`quorlock::safety`, *What the order depends on*).
fn clock_finding(ahead_micros: i64, max_ttl: Option<Duration>) -> Option<Finding> {
    let offset = Duration::from_micros(ahead_micros.unsigned_abs());
    let seconds = ahead_micros as f64 / 1e6;
    // Plain locks have no numbers.
    let Some(max_ttl) = max_ttl else {
        return (offset > PLAIN_TOLERANCE).then(|| {
            note(format!("its clock is {seconds:+.1} s from ours: no lock minds while it runs steadily"))
        });
    };
    if offset > max_ttl.saturating_sub(TOLERANCE) / 2 {
        return Some(fault(format!(
            "its clock is {seconds:+.1} s from ours, about half the longest ttl or more: fencing numbers may fall when nodes \
             lose theirs; set the clock (chrony, or another time service)"
        )));
    }
    (offset > TOLERANCE).then(|| {
        note(format!(
            "its clock is {seconds:+.1} s from ours, more than the {} ms that fencing numbers tolerate: locks cost another \
             round trip; set the clock (chrony, or another time service)",
            TOLERANCE.as_millis()
        ))
    })
}

/// What to look after where a dial failed in this step. What servers themselves say needs nothing added.
fn way_to(failed_step: Option<DialStep>) -> &'static str {
    match failed_step {
        Some(DialStep::Lookup) => "; is the name right, and does the name service answer?",
        Some(DialStep::Connection) => "; is it running, and may this machine reach it?",
        Some(DialStep::Login) => "; is it hung?",
        _ => "",
    }
}

/// Whether a node lets the user do too little. What exactly, the node has said: of one right at a time, in words of its own.
fn lacks_rights(finding: &Finding) -> bool {
    ["permission missing", "grant the user"].iter().any(|words| finding.words.contains(words))
}

fn remedy(bar: &ExclusionReason) -> String {
    let what = match bar {
        ExclusionReason::AuthFailed(_) => "check user and password (--username, --password-file, or the URL)",
        ExclusionReason::ClusterMismatch(_) => {
            "give all clients the same --nodes, --quorum, --max-ttl and --fencing-retention; to change these, stop all clients of these \
             nodes and run `quorlock init --force`"
        }
        ExclusionReason::EvictionEnabled => "until then it casts no vote",
        _ => return bar.to_string(),
    };
    format!("{bar}; {what}")
}

fn table_of(nodes: &[NodeStatus], findings: &[Vec<Finding>], general: &[Finding], is_well: bool) -> String {
    let width = nodes.iter().map(|node| node.address.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!(
        "{:width$}  {:9}  {:14}  {:>10}  {:>9}  {:>9}  {}",
        "node", "state", "server", "round trip", "clock", "fences", "persistence"
    )];
    for (node, findings) in nodes.iter().zip(findings) {
        lines.push(format!(
            "{:width$}  {:9}  {:14}  {:>10}  {:>9}  {:>9}  {}",
            node.address,
            state_for_people(node),
            dash(&node.server),
            node.round_trip.map_or_else(|| "-".to_owned(), millis),
            node.clock_ahead_micros
                .map_or_else(|| "-".to_owned(), |micros| format!("{:+.1} ms", micros as f64 / 1e3)),
            node.fences.map_or_else(|| "-".to_owned(), about),
            dash(&node.persistence),
        ));
        for finding in findings {
            lines.push(format!("{:width$}  {} {}", "", mark(finding), finding.words));
        }
    }
    for finding in general {
        lines.push(format!("{} {}", mark(finding), finding.words));
    }
    let all = || general.iter().chain(findings.iter().flatten());
    let has_notes = all().any(|it| !it.is_fault);
    lines.push(match (is_well, has_notes) {
        (true, false) => "healthy".to_owned(),
        (true, true) => "healthy, with warnings".to_owned(),
        (false, _) => format!("unhealthy: {}", counted(all().filter(|it| it.is_fault).count(), "problem")),
    });
    lines.join("\n") + "\n"
}

fn json_of(mut all: Value, nodes: &[NodeStatus], findings: &[Vec<Finding>], general: &[Finding]) -> String {
    let list = |findings: &[Finding]| -> Vec<_> {
        findings
            .iter()
            .map(|it| json!({ "severity": if it.is_fault { "fault" } else { "note" }, "message": it.words }))
            .collect()
    };
    let list_of_nodes: Vec<_> = (nodes.iter().zip(findings))
        .map(|(node, findings)| {
            let more = [
                ("server", json!(node.server)),
                ("run_id", json!(node.run_id)),
                ("round_trip_us", json!(node.round_trip.map(|it| it.as_micros() as u64))),
                ("clock_ahead_us", json!(node.clock_ahead_micros)),
                ("persistence", json!(node.persistence)),
                ("fences", json!(node.fences.map(|it| json!({ "count": it.count, "bytes": it.bytes })))),
                ("findings", json!(list(findings))),
            ];
            let mut fields = nodes::json_of(node);
            fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
            fields
        })
        .collect();
    all["nodes"] = json!(list_of_nodes);
    all["findings"] = json!(list(general));
    format!("{all}\n")
}

fn fault(words: String) -> Finding {
    Finding { is_fault: true, words }
}

fn note(words: String) -> Finding {
    Finding { is_fault: false, words }
}

fn mark(finding: &Finding) -> &'static str {
    if finding.is_fault { "✗" } else { "·" }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// How many, as well as fifty keys of all tell.
fn about(fences: Fences) -> String {
    if fences.count < 50 { fences.count.to_string() } else { format!("~{}", fences.count) }
}

fn millis(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1e3)
}

/// All rights, so that nobody is told of one after the other.
const RIGHTS: &str = "grant the user all that locks need: ACL SETUSER … ~* &quorlock:waiters:* +set +get +del +pexpire +pttl \
                      +time +eval +evalsha +script|load +info +client|setname +subscribe +publish +zadd +zrange \
                      +zrem +zscore +scan +dbsize";
const PROBE_TTL: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(1);
/// By how much clocks may differ before they choose different fencing numbers.
const TOLERANCE: Duration = Duration::from_millis(250);
const PLAIN_TOLERANCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_called_what_it_is() {
        let finding = |millis: i64, longest: Option<u64>| {
            clock_finding(millis * 1_000, longest.map(Duration::from_secs))
        };
        assert!([-250, 0, 250].iter().all(|millis| finding(*millis, Some(30)).is_none()));
        for millis in [-14_000, -300, 300, 14_000] {
            let finding = finding(millis, Some(30)).expect("more than the tolerance");
            assert!(!finding.is_fault && finding.words.contains("250 ms"), "{}", finding.words);
        }
        for millis in [-3_600_000, 15_000] {
            let finding = finding(millis, Some(30)).expect("half a probation");
            assert!(finding.is_fault && finding.words.contains("fencing numbers"), "{}", finding.words);
        }
        assert!(finding(400, None).is_none() && finding(3_600_000, None).is_some_and(|it| !it.is_fault));
    }
}
