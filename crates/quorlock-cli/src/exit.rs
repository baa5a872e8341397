//! Exit codes, following `sysexits` and the shell, and the messages that go with them.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;

use quorlock::error::{ConnectError, InspectError};
use quorlock::node::{ExclusionReason, NodeReply, NodeState, NodeStatus};
use quorlock::{AcquireError, LockName};

/// The doctor found a problem, or an invariant was violated.
pub(crate) const UNHEALTHY: u8 = 1;
/// A usage error.
pub(crate) const USAGE: u8 = 64;
/// No quorum of nodes could be reached, or votes.
pub(crate) const NO_QUORUM: u8 = 69;
/// The lock was lost before the command ended.
pub(crate) const LOST: u8 = 70;
/// An internal error, such as a thread or a process that cannot be started.
pub(crate) const SOFTWARE: u8 = 71;
/// The output cannot be written.
pub(crate) const OUTPUT: u8 = 74;
/// The lock is contended.
pub(crate) const CONTENDED: u8 = 75;
/// The nodes exclude this client: password, permission, role.
pub(crate) const EXCLUDED: u8 = 77;
/// The configuration is invalid, or differs from that of the nodes' lock cluster.
pub(crate) const CONFIG: u8 = 78;
/// The command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// A failure of quorlock itself: its exit code, and one line for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match &error {
            ConnectError::NodesExcluded { nodes, .. } if nodes.iter().any(rejects_list) => {
                return Self::new(CONFIG, format!("{OTHER_LIST}: {error}"));
            }
            ConnectError::NoQuorum { .. } => NO_QUORUM,
            ConnectError::NodesExcluded { .. } => EXCLUDED,
            ConnectError::InvalidInput(_) | ConnectError::InvalidNodeList { .. } => CONFIG,
            _ => SOFTWARE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let code = match &error {
            AcquireError::NodesExcluded { replies, .. }
                if replies.iter().any(|(_, it)| is_of_other_list(it)) =>
            {
                CONFIG
            }
            AcquireError::Contended { .. } => CONTENDED,
            AcquireError::NoQuorum { .. }
            | AcquireError::OnProbation { .. }
            | AcquireError::TooLate { .. } => NO_QUORUM,
            AcquireError::NodesExcluded { .. } => EXCLUDED,
            AcquireError::InvalidInput(_) => USAGE,
            _ => SOFTWARE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        let code = if matches!(error, InspectError::InvalidInput(_)) { USAGE } else { SOFTWARE };
        Self::new(code, error.to_string())
    }
}

/// The failure of a command that only lock clusters in fenced mode have.
pub(crate) fn plain_mode(is_typed: bool, to_do: &str) -> Failure {
    let (code, name) = if is_typed { (USAGE, "--mode plain") } else { (CONFIG, "mode plain") };
    let message = format!(
        "{name}: plain clients belong to no lock cluster, so there is nothing to {to_do}; leave it out"
    );
    Failure::new(code, message)
}

/// The failure to start servers: a configuration error if a variable names the server's binary.
pub(crate) fn no_servers(error: &quorlock_chaos::StartError) -> Failure {
    let is_set = matches!(&error, quorlock_chaos::StartError::NoBinary(none) if none.is_set());
    Failure::new(if is_set { CONFIG } else { NO_QUORUM }, error.to_string())
}

/// The failure to execute a command, with the codes of a shell.
pub(crate) fn not_executed(program: &OsStr, error: &io::Error) -> Failure {
    let name = program.to_string_lossy();
    if program.is_empty() {
        return Failure::new(NOT_FOUND, "the command's name is empty");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::new(NOT_EXECUTABLE, format!("{name}: {error}"));
    }
    let message = if Path::new(program).is_file() {
        format!("{name}: its interpreter (the first line names it) was not found")
    } else {
        format!("{name}: not found")
    };
    Failure::new(NOT_FOUND, message)
}

/// The exit code for the reasons why nodes are excluded, if any is.
pub(crate) fn code_of_exclusions(nodes: &[NodeStatus]) -> Option<u8> {
    let code = |node: &NodeStatus| match &node.state {
        NodeState::Excluded(reason) => Some(code_of_exclusion(reason)),
        _ => None,
    };
    // A wrong list comes first: other problems may be of the wrong nodes.
    nodes.iter().filter_map(code).max()
}

/// The exit code for the reason why a node is excluded.
pub(crate) fn code_of_exclusion(reason: &ExclusionReason) -> u8 {
    match reason {
        ExclusionReason::OtherNodeList(_) => CONFIG,
        reason if reason.is_misplaced() => CONFIG,
        // The first `run` initializes these nodes, and waits.
        ExclusionReason::Uninitialized => NO_QUORUM,
        _ => EXCLUDED,
    }
}

/// Whether the node is excluded because this client's list of nodes is not the lock cluster's.
fn rejects_list(node: &NodeStatus) -> bool {
    matches!(node.state, NodeState::Excluded(ExclusionReason::OtherNodeList(_)))
}

fn is_of_other_list(reply: &NodeReply) -> bool {
    matches!(reply, NodeReply::Excluded(ExclusionReason::OtherNodeList(_)))
}

/// The exit code if too few nodes replied as needed: an exclusion, if so many nodes exclude this client that
/// the others are not enough.
pub(crate) fn code_of_too_few<'a>(
    nodes: &[NodeStatus],
    votes: impl Iterator<Item = &'a NodeReply>,
    needed: usize,
) -> u8 {
    // A node that admits this client may still reject this request.
    let is_excluded = |(node, vote): &(&NodeStatus, &NodeReply)| {
        matches!(node.state, NodeState::Excluded(_)) || matches!(vote, NodeReply::Excluded(_))
    };
    let count = nodes.iter().zip(votes).filter(is_excluded).count();
    if count > nodes.len().saturating_sub(needed) {
        code_of_exclusions(nodes).unwrap_or(EXCLUDED)
    } else {
        NO_QUORUM
    }
}

/// Prints one line on stderr in one write, because other processes may write to the same file. Errors are
/// ignored: a closed stderr must not end a process that holds a lock.
pub(crate) fn eprint_line(message: &str) {
    let line = format!("quorlock: {message}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The lock's name at the start of messages, as in the library.
pub(crate) fn lock(name: impl AsRef<[u8]>) -> String {
    let name = LockName::new(name).to_string();
    match name.char_indices().nth(MAX_NAME_LENGTH) {
        Some((end, _)) => format!("lock \"{}\"…", &name[..end]),
        None => format!("lock \"{name}\""),
    }
}

/// Ends this process by a signal. Returns the exit code 128 + the signal if the signal does not end it.
pub(crate) fn by_signal(signal: rustix::process::Signal) -> u8 {
    crate::signals::die_of(signal);
    128_u8.wrapping_add(signal.as_raw() as u8)
}

/// A child's exit code as in a shell: its own, or 128 + the signal.
pub(crate) fn code_of(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128_u8.wrapping_add(signal as u8),
        (None, None) => SOFTWARE,
    }
}

/// The beginning of the error for a list of nodes with which no lock can be acquired.
const OTHER_LIST: &str = "this list of nodes is not the lock cluster's: give this client the list in force (--nodes, and --node-names if programs set them)";
/// The longest name in messages, in characters.
const MAX_NAME_LENGTH: usize = 200;
