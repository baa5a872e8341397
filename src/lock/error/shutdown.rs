//! What was not finished at the end of a shutdown.

use std::fmt;
use std::sync::Arc;

use super::NoDriver;
use quorlock_proto::request::Key as LockName;

/// What was not finished when the time limit of a shutdown was reached.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// if let Err(unfinished) = redlock.shutdown(Duration::from_secs(2)).await {
///     for key in &unfinished.held_locks {
///         eprintln!("{key} was held until the end");
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownError {
    /// Every pending release that is not known to be done. Such keys stay until they expire.
    pub pending_releases: Vec<PendingRelease>,
    /// Locks whose guards were still alive. Their guards report that they are lost.
    pub held_locks: Vec<LockName>,
    /// Why the client's driver did not reply. In that case it is not known what was unfinished.
    pub no_driver: Option<NoDriver>,
}

/// A release that a node has not confirmed.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// if let Err(unfinished) = redlock.shutdown(Duration::from_secs(2)).await {
///     for release in &unfinished.pending_releases {
///         eprintln!("{} stays on {} until it expires", release.key, release.node);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingRelease {
    /// The node's address.
    pub node: Arc<str>,
    /// The lock's key on the node.
    pub key: LockName,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = self.no_driver {
            return write!(f, "not shut down: {reason}");
        }
        let (releases, locks) = (self.pending_releases.len(), self.held_locks.len());
        let [releases, locks] = [(releases, "pending release"), (locks, "lock")].map(|(count, noun)| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {noun}{s}")
        });
        write!(f, "shut down with {releases} and {locks} still held")
    }
}

impl std::error::Error for ShutdownError {}
