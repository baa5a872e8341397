//! Forgetting a name: its last number goes from the nodes before its time.

use super::client::Redlock;
use super::error::{ForgetError, InvalidInput};
use super::replies::NodeReplies;
use quorlock_proto::request::{Key, RequestKind};
use quorlock_proto::vote::Vote;

impl Redlock {
    /// Forgets a name that is not locked and will not be soon: its last fencing number goes from every node as soon as
    /// that is safe, instead of after [`fencing_retention`](super::RedlockBuilder::fencing_retention). For names that are used once, such as
    /// those of queue items or orders: each that is remembered
    /// [costs each node](crate::safety#what-it-costs-the-nodes) 120 bytes and the length of the name.
    ///
    /// A node forgets the number a longest ttl after it was given, or the next time that the name was locked, so this never
    /// waits, and numbers go on to grow if the name is locked again, at once or ever. Only a node's clock that is set back by
    /// more than the longest ttl can then make them fall. Nodes of another lock cluster, or on other terms, forget nothing.
    /// Forgetting what is forgotten is no error. [`Granted`](Vote::Granted) in the
    /// report is a node that has forgotten it, or will; [`NotHeld`](Vote::NotHeld) one that knew nothing.
    ///
    /// # Errors
    ///
    /// [`Held`](ForgetError::HeldByOthers) if a node shows a key of this name, [`NoQuorum`](ForgetError::NoQuorum) if fewer than a
    /// quorum of nodes answered, [`InvalidInput`](ForgetError::InvalidInput) for a bad name and for a plain client,
    /// [`Closed`](ForgetError::Closed), [`NoDriver`](ForgetError::NoDriver).
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, some nodes may have forgotten the name. That does no harm.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("order:81723").acquire().await?;
    /// // … the order is done, and never comes again …
    /// guard.release().await?;
    /// redlock.forget("order:81723").await?;
    /// # Ok(()) }
    /// ```
    pub async fn forget(&self, name: impl AsRef<str>) -> Result<NodeReplies, ForgetError> {
        let key = self.key(&Key::new(name.as_ref()))?.shared();
        if self.shared.max_ttl.is_none() {
            return Err(InvalidInput::new(
                "a plain client knows no fencing numbers: there is nothing to forget",
            )
            .into());
        }
        let votes = self.survey(RequestKind::Forget, name.as_ref()).await?.votes;
        let is_held = votes.iter().any(|vote| matches!(vote, Vote::HeldByOther { .. }));
        let forgot = votes.iter().filter(|vote| matches!(vote, Vote::Granted | Vote::NotHeld)).count();
        let report = self.replies(votes);
        match () {
            () if is_held => Err(ForgetError::HeldByOthers { key, replies: report }),
            () if !self.shared.quorum.is_met(forgot) => Err(ForgetError::NoQuorum { key, replies: report }),
            () => Ok(report),
        }
    }
}
