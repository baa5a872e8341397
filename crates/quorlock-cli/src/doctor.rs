//! `quorlock doctor`: checks every node, and names each problem with its fix.

mod provider;
mod roster;

use std::time::Duration;

use quorlock::node::{
    DialStep, ExclusionReason, Fences, NodeReply, NodeState, NodeStatus, NodeWarning, Persistence,
};
use quorlock::{AcquireError, ReleaseOutcome};
use quorlock_chaos::checker::counted;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::config::{self, Cluster};
use crate::exit::Failure;
use crate::nodes::{self, NOT_INITIALIZED, NodeView, state_for_people};
use crate::output::{print, print_json};
use provider::Provider;

/// An observation about the nodes, and what to do about it.
#[derive(Serialize)]
struct Finding {
    severity: Severity,
    message: String,
}

impl Finding {
    fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }
}

/// The doctor fails because of a problem, and not because of a warning.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Problem,
    Warning,
}

/// The result as JSON.
#[derive(Serialize)]
struct DoctorReport<'a> {
    healthy: bool,
    quorum: usize,
    votes: usize,
    can_acquire: bool,
    /// The number of the roster, if one was read.
    roster: Option<&'a str>,
    nodes: Vec<NodeFindings<'a>>,
    /// About no single node.
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct NodeFindings<'a> {
    #[serde(flatten)]
    node: NodeView<'a>,
    findings: &'a [Finding],
}

pub(crate) async fn doctor(args: DoctorArgs) -> Result<u8, Failure> {
    let Cluster { builder, quorum: own_quorum, max_ttl, fencing_retention, .. } =
        config::cluster(args.nodes)?;
    // Read only: checking blank servers must not initialize them.
    let redlock = builder.read_only(true).connect_lazy()?;
    // Wait for every node first: the probe would proceed with the first quorum.
    redlock.node_status().await;
    // A short lock shows whether this user has all permissions that a lock needs. It must be at most as long as the max
    // ttl of this client, and as the one in force.
    let ttl = [max_ttl, redlock.max_ttl()].into_iter().flatten().fold(PROBE_TTL, Duration::min);
    let probed = match redlock.mutex(&args.probe).ttl(ttl).try_acquire().await {
        Ok(Some(guard)) => match guard.release().await {
            Ok(ReleaseOutcome { confirmed: true, .. }) => Ok(()),
            Ok(outcome) => Err(ProbeFailure::Release(outcome.replies.to_string())),
            Err(error) => Err(ProbeFailure::Release(error.to_string())),
        },
        // Another doctor holds the probe.
        Ok(None) => Ok(()),
        Err(error @ AcquireError::InvalidInput(_)) => return Err(error.into()),
        Err(error) => Err(ProbeFailure::Acquire(error.to_string())),
    };
    let probe = redlock.inspect(&args.probe).await?;
    // Fails for plain clients, which have nothing to forget.
    let _ = redlock.forget(&args.probe).await;
    let nodes = redlock.node_status().await;
    let quorum = redlock.quorum();
    let _ = redlock.shutdown(DRAIN).await;
    let is_uninitialized = nodes::are_uninitialized(&nodes);
    let nodes_to_fix = nodes::fix_first(&nodes);
    let examined =
        nodes.iter().map(|node| examine(node, (is_uninitialized, nodes_to_fix.is_some()), max_ttl));
    let mut findings: Vec<Vec<Finding>> = examined.collect();
    let can_acquire = !matches!(probed, Err(ProbeFailure::Acquire(_)));
    for (index, inspection) in probe.nodes.iter().enumerate() {
        if let (NodeState::Up, NodeReply::Excluded(reason)) = (&nodes[index].state, &inspection.reply) {
            findings[index].push(problem(Provider::of(&nodes[index]).fix_for(reason)));
        }
    }
    let mut general = Vec::new();
    if let (true, Some(first)) = (is_uninitialized, &nodes_to_fix) {
        general.push(problem(format!("{NOT_INITIALIZED}: {first}; then run `quorlock init` once")));
    } else if is_uninitialized {
        let max_ttl = humantime::format_duration(max_ttl.unwrap_or_default());
        general.push(problem(format!(
            "{NOT_INITIALIZED}: run `quorlock init` once; otherwise the first client does it, and no lock can be \
             acquired for the max ttl ({max_ttl})"
        )));
    } else {
        let first = nodes_to_fix.filter(|_| nodes.iter().any(nodes::waits_for_others));
        general.extend(no_lock(&nodes, quorum, probed).map(|finding| match first {
            Some(first) => problem(format!("{}; {first}", finding.message)),
            None => finding,
        }));
    }
    for (node, findings) in nodes.iter().zip(&mut findings) {
        findings.extend(roster::seat_finding(node));
    }
    general.extend(roster::list_finding(&nodes));
    general.extend(roster::settings_finding(&nodes, own_quorum, max_ttl, fencing_retention));
    let lacking = nodes.iter().zip(&findings).find(|(_, findings)| findings.iter().any(lacks_permissions));
    if let Some((node, _)) = lacking {
        let place = Provider::of(node).permissions;
        general
            .push(problem(format!("grant the user all permissions that locks need{place}: {PERMISSIONS}")));
    }
    if nodes.len() % 2 == 0 {
        general.push(warning(
            "an even number of nodes tolerates no more failures than one node fewer".to_owned(),
        ));
    }
    if nodes.len() == 1 {
        general.push(warning(
            "a single node is a single point of failure: three nodes tolerate one failure, five tolerate two"
                .to_owned(),
        ));
    }
    let problems =
        general.iter().chain(findings.iter().flatten()).filter(|finding| finding.is_problem()).count();
    let is_healthy = problems == 0;
    if args.json {
        let with_findings = |(node, findings)| NodeFindings { node: NodeView::from(node), findings };
        print_json(&DoctorReport {
            healthy: is_healthy,
            quorum,
            votes: nodes::voting(&nodes),
            can_acquire,
            roster: roster::epoch(&nodes),
            nodes: nodes.iter().zip(findings.iter().map(Vec::as_slice)).map(with_findings).collect(),
            findings: &general,
        });
    } else {
        print(&table_of(&nodes, &findings, &general, problems));
    }
    Ok(u8::from(!is_healthy))
}

/// The step of the probe lock that failed.
enum ProbeFailure {
    Acquire(String),
    Release(String),
}

/// Why no lock can be acquired, or released.
fn no_lock(nodes: &[NodeStatus], quorum: usize, probed: Result<(), ProbeFailure>) -> Option<Finding> {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    let (voting, all) = (nodes::voting(nodes), nodes.len());
    if up < quorum {
        return Some(problem(format!(
            "no lock can be acquired: {up} of {all} nodes can vote and {quorum} must"
        )));
    }
    if voting < quorum {
        let wait = nodes::quorum_in(nodes, quorum);
        let span = wait.map_or_else(String::new, |wait| format!(" for {} more", nodes::span(wait)));
        let message =
            format!("no lock can be acquired{span}: {voting} of {all} nodes vote and {quorum} must");
        // Waiting comes first: in an outage, --force would void locks.
        return Some(problem(match wait {
            Some(wait) => format!(
                "{message}; wait until then; or, if the lock cluster is new and was never used, `quorlock init --force` \
                 ends the probation{}",
                if wait.is_zero() { " at once" } else { "" }
            ),
            None => message,
        }));
    }
    probed.err().map(|failure| {
        problem(match failure {
            ProbeFailure::Acquire(cause) => {
                format!("no lock can be acquired, though enough nodes vote: {cause}")
            }
            ProbeFailure::Release(cause) => {
                format!("a lock can be acquired and not released, so it stays until its ttl is over: {cause}")
            }
        })
    })
}

/// The findings on one node. The message for a blank node depends on the others: all blank, or some to fix.
fn examine(
    node: &NodeStatus,
    (is_uninitialized, is_to_fix): (bool, bool),
    max_ttl: Option<Duration>,
) -> Vec<Finding> {
    let (provider, mut findings) = (Provider::of(node), Vec::new());
    match &node.state {
        NodeState::Down { reason: cause, .. } => {
            findings.push(problem(format!("{cause}{}", advice_on(node.failed_step))));
        }
        // One message covers all nodes.
        NodeState::Excluded(ExclusionReason::Uninitialized) if is_uninitialized => {}
        NodeState::Excluded(ExclusionReason::Uninitialized) if is_to_fix => {
            findings.push(problem(nodes::BLANK.to_owned()));
        }
        NodeState::Unverified(None) if is_to_fix => findings.extend(nodes::problem_of(node).map(problem)),
        // The warning below names the policy.
        NodeState::Excluded(ExclusionReason::EvictionEnabled)
            if node.warnings.iter().any(|it| matches!(it, NodeWarning::EvictionPolicy(_))) => {}
        NodeState::Excluded(reason) => findings.push(problem(provider.fix_for(reason))),
        NodeState::Unverified(Some(failure)) => findings.push(problem(failure.to_string())),
        // It ends by itself.
        NodeState::Up | NodeState::Unverified(None) => findings.extend(nodes::problem_of(node).map(warning)),
        _ => findings.push(problem("no reply yet: check that the server is responsive".to_owned())),
    }
    findings.extend(node.warnings.iter().map(|warning| {
        problem(match warning {
            NodeWarning::EvictionPolicy(_) => format!("{warning} {}", provider.noeviction),
            _ => warning.to_string(),
        })
    }));
    let clock = |micros| clock_finding(micros, max_ttl, provider.clock);
    findings.extend(node.clock_offset_micros.and_then(clock));
    if node.persistence == Some(Persistence::NoAppendOnlyFile) {
        findings.push(warning(format!(
            "forgets its locks, its fencing numbers and its lock cluster when it restarts: {}",
            provider.persistence
        )));
    }
    findings
}

/// The finding on a node's clock offset. Locks depend on the clock's speed alone; the order of fencing
/// numbers depends on its time too, once nodes lose them (see `quorlock::safety`).
fn clock_finding(ahead_micros: i64, max_ttl: Option<Duration>, fix: &str) -> Option<Finding> {
    let offset = Duration::from_micros(ahead_micros.unsigned_abs());
    let seconds = ahead_micros as f64 / 1e6;
    // Plain locks have no fencing numbers.
    let Some(max_ttl) = max_ttl else {
        return (offset > PLAIN_TOLERANCE).then(|| {
            warning(format!(
                "its clock is {seconds:+.1} s from this machine's: this affects no lock while both run steadily"
            ))
        });
    };
    if offset > max_ttl.saturating_sub(TOLERANCE) / 2 {
        return Some(problem(format!(
            "its clock is {seconds:+.1} s from this machine's, about half the max ttl or more: fencing numbers may fall \
             when nodes lose theirs; {fix}"
        )));
    }
    (offset > TOLERANCE).then(|| {
        warning(format!(
            "its clock is {seconds:+.1} s from this machine's, more than the {} ms that fencing numbers tolerate: locks cost \
             another round trip; {fix}",
            TOLERANCE.as_millis()
        ))
    })
}

/// What to check after a dial that failed in this step. An error reply of the server needs no addition.
fn advice_on(failed_step: Option<DialStep>) -> &'static str {
    match failed_step {
        Some(DialStep::Lookup) => "; check the host name, and that DNS resolves it",
        Some(DialStep::Connection) => "; check that it is running, and that this machine can reach it",
        Some(DialStep::Credentials) => "; check --password-file or --password-command",
        Some(DialStep::Login) => "; check that the server is responsive",
        _ => "",
    }
}

/// Whether a node reports a missing permission. Servers name one at a time, with different wording.
fn lacks_permissions(finding: &Finding) -> bool {
    ["permission missing", "grant the user"].iter().any(|text| finding.message.contains(text))
}

fn table_of(nodes: &[NodeStatus], findings: &[Vec<Finding>], general: &[Finding], problems: usize) -> String {
    let width = nodes.iter().map(|node| node.address.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!(
        "{:width$}  {:10}  {:14}  {:>10}  {:>9}  {:>9}  {}",
        "node", "state", "server", "round trip", "clock", "fences", "persistence"
    )];
    for (node, findings) in nodes.iter().zip(findings) {
        lines.push(format!(
            "{:width$}  {:10}  {:14}  {:>10}  {:>9}  {:>9}  {}",
            node.address,
            state_for_people(node),
            node.server.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            node.round_trip.map_or_else(|| "-".to_owned(), millis),
            node.clock_offset_micros
                .map_or_else(|| "-".to_owned(), |micros| format!("{:+.1} ms", micros as f64 / 1e3)),
            node.fences.map_or_else(|| "-".to_owned(), rounded),
            node.persistence.map_or_else(|| "-".to_owned(), |it| it.to_string()),
        ));
        for finding in findings {
            lines.push(format!("{:width$}  {} {}", "", bullet(finding), finding.message));
        }
    }
    lines.extend(roster::summary(nodes));
    for finding in general {
        lines.push(format!("{} {}", bullet(finding), finding.message));
    }
    let has_warnings = general.iter().chain(findings.iter().flatten()).any(|it| !it.is_problem());
    let verdict = match (problems, has_warnings) {
        (0, false) => "healthy".to_owned(),
        (0, true) => "healthy, with warnings".to_owned(),
        (count, _) => format!("unhealthy: {}", counted(count, "problem")),
    };
    lines.push(verdict);
    lines.join("\n") + "\n"
}

fn problem(message: String) -> Finding {
    Finding { severity: Severity::Problem, message }
}

fn warning(message: String) -> Finding {
    Finding { severity: Severity::Warning, message }
}

fn bullet(finding: &Finding) -> &'static str {
    if finding.is_problem() { "✗" } else { "·" }
}

/// The number of fences: exact below 50, otherwise an estimate from a sample of 50 keys.
fn rounded(fences: Fences) -> String {
    if fences.count < 50 { fences.count.to_string() } else { format!("~{}", fences.count) }
}

fn millis(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1e3)
}

/// All permissions at once, because servers name missing ones one by one.
const PERMISSIONS: &str = "ACL SETUSER … ~* &quorlock:waiters:* +set +get +del +pexpire +pttl \
                      +time +eval +evalsha +script|load +info +client|setname +subscribe +publish +zadd +zrange \
                      +zrem +zscore +scan +dbsize";
const PROBE_TTL: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(1);
/// The clock offset up to which nodes choose the same fencing number.
const TOLERANCE: Duration = Duration::from_millis(250);
const PLAIN_TOLERANCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_offset_is_a_warning_and_a_large_one_a_problem() {
        let finding = |millis: i64, longest: Option<u64>| {
            clock_finding(millis * 1_000, longest.map(Duration::from_secs), "synchronize the clock")
        };
        assert!([-250, 0, 250].iter().all(|millis| finding(*millis, Some(30)).is_none()));
        for millis in [-14_000, -300, 300, 14_000] {
            let finding = finding(millis, Some(30)).expect("more than the tolerance");
            assert!(!finding.is_problem() && finding.message.contains("250 ms"), "{}", finding.message);
        }
        for millis in [-3_600_000, 15_000] {
            let finding = finding(millis, Some(30)).expect("half a probation");
            assert!(
                finding.is_problem() && finding.message.contains("fencing numbers"),
                "{}",
                finding.message
            );
        }
        assert!(finding(400, None).is_none() && finding(3_600_000, None).is_some_and(|it| !it.is_problem()));
    }
}
