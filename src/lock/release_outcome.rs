//! The outcome of a release.

use crate::view::NodeReplies;

/// The outcome of a release of a lock that was held until then.
///
/// # Examples
///
/// ```no_run
/// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
/// let outcome = guard.release().await?;
/// if !outcome.confirmed {
///     for (node, reply) in &outcome.replies {
///         eprintln!("{node}: {reply}");
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReleaseOutcome {
    /// Whether a quorum of nodes confirmed that the key is gone. If not, the driver retries the pending releases in
    /// the background while the client lives; at worst the keys stay until they expire.
    pub confirmed: bool,
    /// The reply of each node at the time when a quorum had confirmed. `Granted`: this lock's key was deleted.
    /// `NotHeld`: the key was not there. `HeldByOther`: another owner's key is there. `Failed`: the release is still
    /// in flight, or will be retried. Empty if the client's driver did not reply.
    pub replies: NodeReplies,
}
