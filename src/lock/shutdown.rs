//! Shutdown of a client.

use std::sync::Arc;
use std::time::Duration;

use super::client::Redlock;
use super::error::{NoReply, PendingRelease, ShutdownError};
use crate::driver::DriverCommand;
use crate::host::clock::now;

impl Redlock {
    /// Shuts down this client and all its clones. It accepts no new work and cancels the running attempts. Then it
    /// waits, for at most `limit`, until every guard is released and no release is pending.
    ///
    /// After success this client has no keys left on any node, except those of locks that were
    /// [abandoned](crate::Guard::abandon) or made [tickets](crate::LockTicket), and the process may exit.
    ///
    /// # Errors
    ///
    /// A [`ShutdownError`] that lists what was not finished at the limit. Guards that are alive then report that their
    /// lock is lost, and their keys stay until they expire: freeing the keys of running work would be worse.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) {
    /// if let Err(left) = redlock.shutdown(std::time::Duration::from_secs(2)).await {
    ///     eprintln!("{left}: {:?}", left.pending_releases);
    /// }
    /// # }
    /// ```
    pub async fn shutdown(&self, limit: Duration) -> Result<(), ShutdownError> {
        let deadline = now().plus(limit);
        // A driver that has ended has nothing left to release.
        let span = Some(limit.saturating_add(CLOSE_SLACK));
        let left = match self.shared.call(span, |reply| DriverCommand::Shutdown { deadline, reply }).await {
            Ok(left) => left,
            Err(NoReply::Closed) => return Ok(()),
            Err(NoReply::NoDriver(reason)) => {
                return Err(ShutdownError { no_driver: Some(reason), ..ShutdownError::default() });
            }
        };
        if left.pending_releases.is_empty() && left.held_keys.is_empty() {
            return Ok(());
        }
        let pending_releases = left
            .pending_releases
            .into_iter()
            .map(|(node, key)| PendingRelease { node: Arc::clone(&self.shared.names[node.index()]), key })
            .collect();
        Err(ShutdownError { pending_releases, held_locks: left.held_keys, no_driver: None })
    }
}

/// How long the driver may take to close its connections.
const CLOSE_SLACK: Duration = Duration::from_millis(250);
