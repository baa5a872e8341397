//! `quorlock doctor`: every node checked, every fault with its remedy.

use std::time::Duration;

use quorlock::{AcquireError, Bar, NodeState, NodeStatus, Vote};
use serde_json::json;

use crate::args::DoctorArgs;
use crate::config;
use crate::exit::Failure;
use crate::status::print;

/// Something about the nodes, and what to do about it.
struct Finding {
    /// Whether it makes the doctor fail, or is only good to know.
    is_fault: bool,
    words: String,
}

pub(crate) async fn doctor(args: DoctorArgs) -> Result<u8, Failure> {
    let redlock = config::builder(args.nodes)?.lazy()?;
    // A lock that is taken for a moment shows whether this user may run all that a lock needs.
    let probed = match redlock.mutex(&args.probe).ttl(PROBE_TTL).try_acquire().await {
        Ok(Some(guard)) => guard.release().await.map(drop).map_err(|error| error.to_string()),
        // Another doctor is at it.
        Ok(None) => Ok(()),
        Err(error @ AcquireError::Invalid(_)) => return Err(error.into()),
        Err(error) => Err(error.to_string()),
    };
    let probe = redlock.inspect(&args.probe).await?;
    let nodes = redlock.nodes().await;
    let _ = redlock.shutdown(DRAIN).await;
    let mut findings: Vec<Vec<Finding>> = nodes.iter().map(examine).collect();
    for (place, sight) in probe.nodes.iter().enumerate() {
        if let (NodeState::Up, Vote::Barred(bar)) = (&nodes[place].state, &sight.vote) {
            findings[place].push(fault(remedy(bar)));
        }
    }
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    let mut general = Vec::new();
    if up < probe.quorum {
        general.push(fault(format!(
            "{up} of {} nodes are up and {} are needed: no lock can be had",
            nodes.len(),
            probe.quorum
        )));
    } else if let Err(words) = probed {
        general.push(fault(format!("no lock can be had though enough nodes are up: {words}")));
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
        print(&json_of(&nodes, &findings, &general, is_well));
    } else {
        print(&table_of(&nodes, &findings, &general, is_well));
    }
    Ok(u8::from(!is_well))
}

fn examine(node: &NodeStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &node.state {
        NodeState::Up => {}
        NodeState::Down(why) => {
            findings.push(fault(format!("{why}: is it running, and may this machine reach it?")));
        }
        NodeState::Barred(bar) => findings.push(fault(remedy(bar))),
        _ => findings.push(fault("no answer yet: is it hung?".to_owned())),
    }
    findings.extend(node.warnings.iter().cloned().map(fault));
    if let Some(micros) = node.clock_ahead_micros.filter(|micros| micros.unsigned_abs() > CLOCK_LIMIT_MICROS)
    {
        findings.push(note(format!(
            "its clock is {:+.1} s from ours: harmless while it runs steadily, but see to its time service",
            micros as f64 / 1e6
        )));
    }
    if node.persistence.starts_with("no ") {
        findings.push(note(
            "forgets its locks when it restarts: use appendonly yes with appendfsync always, or keep it down for the \
             longest ttl"
                .to_owned(),
        ));
    }
    findings
}

fn remedy(bar: &Bar) -> String {
    let what = match bar {
        Bar::Login(_) => "check user and password (--username, --password-file, or the URL)",
        Bar::NoPermission(_) => {
            "grant it: ACL SETUSER … +set +get +del +pexpire +pttl +eval +evalsha +script|load +info +client|setname"
        }
        _ => return bar.to_string(),
    };
    format!("{bar}; {what}")
}

fn table_of(nodes: &[NodeStatus], findings: &[Vec<Finding>], general: &[Finding], is_well: bool) -> String {
    let width = nodes.iter().map(|node| node.address.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!(
        "{:width$}  {:6}  {:14}  {:>10}  {:>9}  {}",
        "node", "state", "server", "round trip", "clock", "persistence"
    )];
    for (node, findings) in nodes.iter().zip(findings) {
        lines.push(format!(
            "{:width$}  {:6}  {:14}  {:>10}  {:>9}  {}",
            node.address,
            state_of(node),
            dash(&node.server),
            node.round_trip.map_or_else(|| "-".to_owned(), millis),
            node.clock_ahead_micros
                .map_or_else(|| "-".to_owned(), |micros| format!("{:+.1} ms", micros as f64 / 1e3)),
            dash(&node.persistence),
        ));
        for finding in findings {
            lines.push(format!("{:width$}  {} {}", "", mark(finding), finding.words));
        }
    }
    for finding in general {
        lines.push(format!("{} {}", mark(finding), finding.words));
    }
    let has_notes = general.iter().chain(findings.iter().flatten()).any(|it| !it.is_fault);
    let verdict = match (is_well, has_notes) {
        (true, false) => "all is well",
        (true, true) => "locks can be had; mind the notes above",
        (false, _) => "something is to be mended",
    };
    lines.push(verdict.to_owned());
    lines.join("\n") + "\n"
}

fn json_of(nodes: &[NodeStatus], findings: &[Vec<Finding>], general: &[Finding], is_well: bool) -> String {
    let list = |findings: &[Finding]| -> Vec<_> {
        findings.iter().map(|it| json!({ "fault": it.is_fault, "words": it.words })).collect()
    };
    let nodes: Vec<_> = (nodes.iter().zip(findings))
        .map(|(node, findings)| {
            json!({
                "node": node.address, "state": state_of(node), "server": node.server, "run_id": node.run_id,
                "round_trip_us": node.round_trip.map(|it| it.as_micros() as u64),
                "clock_ahead_us": node.clock_ahead_micros, "persistence": node.persistence,
                "findings": list(findings),
            })
        })
        .collect();
    format!("{}\n", json!({ "well": is_well, "nodes": nodes, "findings": list(general) }))
}

fn state_of(node: &NodeStatus) -> &'static str {
    match &node.state {
        NodeState::Up => "up",
        NodeState::Down(_) => "down",
        NodeState::Barred(_) => "barred",
        _ => "silent",
    }
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

fn millis(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1e3)
}

const PROBE_TTL: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(1);
const CLOCK_LIMIT_MICROS: u64 = 500_000;
