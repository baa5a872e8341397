//! Every way to end has a number, after `sysexits` and the shell.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;

use quorlock::{AcquireError, ConnectError, ExclusionReason, InspectError, NodeState, NodeStatus, Vote};

/// Something is to be mended, or a promise was broken.
pub(crate) const UNHEALTHY: u8 = 1;
/// What was typed cannot work.
pub(crate) const USAGE: u8 = 64;
/// No quorum of nodes could be reached, or votes.
pub(crate) const NO_QUORUM: u8 = 69;
/// The lock was lost before the child ended, or something went wrong that should not.
pub(crate) const LOST: u8 = 70;
pub(crate) const SOFTWARE: u8 = 70;
/// What there is to say cannot be written.
pub(crate) const OUTPUT: u8 = 74;
/// Others hold the lock.
pub(crate) const CONTENDED: u8 = 75;
/// Redis refuses us: password, permission, role.
pub(crate) const REFUSED: u8 = 77;
/// The configuration cannot work, or is not the one that these nodes are a cluster by.
pub(crate) const CONFIG: u8 = 78;
/// The command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// An end that is not the child's: its number, and one line for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, words: impl Into<String>) -> Self {
        Self { code, message: words.into() }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match &error {
            ConnectError::NoQuorum { .. } => NO_QUORUM,
            ConnectError::NodesExcluded { .. } => REFUSED,
            ConnectError::InvalidInput(_) | ConnectError::InvalidNodeList { .. } => CONFIG,
            _ => SOFTWARE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let code = match &error {
            AcquireError::Contended { .. } => CONTENDED,
            AcquireError::NoQuorum { .. }
            | AcquireError::OnProbation { .. }
            | AcquireError::TooLate { .. } => NO_QUORUM,
            AcquireError::NodesExcluded { .. } => REFUSED,
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

/// Why no servers of our own could be started: a wrong setting, where one names the binary.
pub(crate) fn no_servers(error: &quorlock_chaos::StartError) -> Failure {
    let is_set = matches!(&error, quorlock_chaos::StartError::NoBinary(none) if none.is_set());
    Failure::new(if is_set { CONFIG } else { NO_QUORUM }, error.to_string())
}

/// Why a command cannot be executed, as a shell tells it.
pub(crate) fn not_executed(program: &OsStr, error: &io::Error) -> Failure {
    let shown = program.to_string_lossy();
    if program.is_empty() {
        return Failure::new(NOT_FOUND, "the command's name is empty");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Failure::new(NOT_EXECUTABLE, format!("{shown}: {error}"));
    }
    let words = if Path::new(program).is_file() {
        format!("{shown}: its interpreter (the first line names it) was not found")
    } else {
        format!("{shown}: not found")
    };
    Failure::new(NOT_FOUND, words)
}

/// The end that fits what bars these nodes, if anything does.
pub(crate) fn code_of_exclusions(nodes: &[NodeStatus]) -> Option<u8> {
    let code = |node: &NodeStatus| match &node.state {
        NodeState::Excluded(
            ExclusionReason::RedisClusterNode
            | ExclusionReason::DuplicateServer(_)
            | ExclusionReason::ClusterMismatch(_),
        ) => Some(CONFIG),
        // Whoever locks there makes it a cluster, and waits.
        NodeState::Excluded(ExclusionReason::Uninitialized) => Some(NO_QUORUM),
        NodeState::Excluded(_) => Some(REFUSED),
        _ => None,
    };
    // A wrong list first: until it is right, nothing else needs mending.
    nodes.iter().filter_map(code).max()
}

/// The end of a question that fewer nodes answered than it needs: a refusal, where those that refuse us are too many for
/// the others to be enough.
pub(crate) fn code_of_too_few<'a>(
    nodes: &[NodeStatus],
    votes: impl Iterator<Item = &'a Vote>,
    need: usize,
) -> u8 {
    // A node that lets us in may still refuse this very question.
    let is_barred = |(node, vote): &(&NodeStatus, &Vote)| {
        matches!(node.state, NodeState::Excluded(_)) || matches!(vote, Vote::Excluded(_))
    };
    let count = nodes.iter().zip(votes).filter(is_barred).count();
    if count > nodes.len() - need { code_of_exclusions(nodes).unwrap_or(REFUSED) } else { NO_QUORUM }
}

/// One line for people, written at once: others may write to the same file. A stderr that nobody reads any more is no
/// reason to panic while a lock is held.
pub(crate) fn eprint_line(words: &str) {
    let line = format!("quorlock: {words}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A lock as messages name it, first of all, as the library does.
pub(crate) fn lock(name: &str) -> String {
    match name.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("lock {:?}…", &name[..end]),
        None => format!("lock {name:?}"),
    }
}

/// Dies of a signal, where that ends this process. Else the exit code by which a shell tells it.
pub(crate) fn by_signal(signal: rustix::process::Signal) -> u8 {
    crate::signals::die_of(signal);
    128_u8.wrapping_add(signal.as_raw() as u8)
}

/// A child's status as a shell tells it: its code, or 128 + the signal.
pub(crate) fn code_of(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128_u8.wrapping_add(signal as u8),
        (None, None) => SOFTWARE,
    }
}

/// In characters.
const LONGEST_SHOWN: usize = 200;
