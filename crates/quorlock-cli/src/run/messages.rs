//! Messages of `run`, and the environment of the command.

use std::time::Duration;

use quorlock::inspect::OwnerHash;
use quorlock::node::NodeStatus;
use quorlock::{FencingToken, Redlock};
use rustix::process::Signal;

use crate::exit::{self, Failure};
use crate::nodes;
use crate::outer_locks;

/// The variables of the command. Without a token, an inherited one is removed, because it is of another lock.
pub(super) fn environment(
    name: &str,
    token: Option<FencingToken>,
    owner: OwnerHash,
) -> [(&'static str, Option<String>); 4] {
    let (variable, value) = outer_locks::variable(owner);
    [
        (variable, Some(value)),
        ("QUORLOCK_LOCK_NAME", Some(name.to_owned())),
        ("QUORLOCK_FENCING_TOKEN", token.map(|token| token.number.to_string())),
        ("QUORLOCK_FENCING_NONCE", token.map(|token| format!("{:032x}", token.nonce))),
    ]
}

/// Reports what is wrong with the list of nodes, although enough of them vote: it is not the lock cluster's, or an
/// address leads to a wrong server. A list that only names the same nodes otherwise is none that could be outdated.
pub(super) async fn report_wrong_list(redlock: Redlock) {
    let nodes = redlock.node_status().await;
    for node in nodes.iter().filter(|node| nodes::is_misplaced(node)) {
        exit::eprint_line(&format!("{node}; it casts no vote, and locks go on with the other nodes"));
    }
    if nodes::has_other_list(&nodes) && !nodes::are_all_members(&nodes) {
        exit::eprint_line(OTHER_LIST);
    }
}

/// The usage error for a ttl above the max ttl in force. The client's own may be longer.
pub(super) fn ttl_too_long(name: &str, ttl: Duration, max_ttl: Duration) -> Failure {
    let [ttl, max_ttl] = [ttl, max_ttl].map(humantime::format_duration);
    let cause = format!("a ttl of {ttl} is longer than the max ttl of {max_ttl} of these nodes");
    Failure::new(
        exit::USAGE,
        format!("{}: --ttl: {cause}; leave it out, or give a shorter one", exit::lock(name)),
    )
}

pub(super) fn lost(name: &str, when: &str) -> String {
    format!("{}: lost {when}", exit::lock(name))
}

/// The message when the lock is being lost: why the command gets TERM, and when KILL.
pub(super) fn losing(nodes: &[NodeStatus], remaining: Duration) -> String {
    let problems: Vec<_> = nodes
        .iter()
        .filter_map(|node| Some(format!("{}: {}", node.address, nodes::problem_of(node)?)))
        .collect();
    let cause = if problems.is_empty() { String::new() } else { format!(" ({})", problems.join("; ")) };
    format!(
        "no renewal was confirmed{cause}: the command gets TERM, and KILL in {:.1} s",
        remaining.as_secs_f64()
    )
}

pub(super) fn name_of(signal: Signal) -> &'static str {
    match signal {
        Signal::STOP => "SIGSTOP",
        Signal::TSTP => "SIGTSTP",
        Signal::TTIN => "SIGTTIN",
        Signal::TTOU => "SIGTTOU",
        Signal::HUP => "SIGHUP",
        Signal::INT => "SIGINT",
        Signal::QUIT => "SIGQUIT",
        Signal::TERM => "SIGTERM",
        Signal::USR1 => "SIGUSR1",
        Signal::USR2 => "SIGUSR2",
        _ => "a signal",
    }
}

const OTHER_LIST: &str = "this list of nodes is not the lock cluster's any more, or never was, and works until fewer of \
                          its nodes are in force: give this client the list in force (--nodes, and --node-names if \
                          programs set them; see `quorlock doctor`)";
