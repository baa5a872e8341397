//! Forgetting a name: the nodes drop its last fencing number early.

use super::client::Redlock;
use super::error::{ForgetError, InvalidInput, InvalidInputKind};
use crate::view::NodeReplies;
use quorlock_proto::request::{Key, RequestKind};
use quorlock_proto::vote::Vote;

impl Redlock {
    /// Forgets a name that is not locked and will not be soon. Every node drops its last fencing number as soon as that
    /// is safe, instead of after [`fencing_retention`](super::RedlockBuilder::fencing_retention). Use it for names that
    /// are used once, such as those of queue items or orders. Each remembered name [costs each
    /// node](crate::safety#what-it-costs-the-nodes) 120 bytes and the length of the name.
    ///
    /// A node forgets the number one max TTL after it was given, or the next time that the name was locked. So this
    /// never waits, and numbers continue to grow if the name is locked again at any time. After that, only a node's
    /// clock that is set back by more than the max TTL can make them smaller. Nodes of another lock cluster, or with
    /// other settings, forget nothing. To forget a name that is already forgotten is no error. In the replies,
    /// [`Granted`](crate::node::NodeReply::Granted) is a node that has forgotten the name or will; [`NotHeld`](crate::node::NodeReply::NotHeld) is a node
    /// that knew nothing of it.
    ///
    /// # Errors
    ///
    /// - [`HeldByOthers`](ForgetError::HeldByOthers): a node has a key of this name.
    /// - [`NoQuorum`](ForgetError::NoQuorum): fewer than a quorum of nodes replied.
    /// - [`InvalidInput`](ForgetError::InvalidInput): the name is invalid, or the client is plain.
    /// - [`Closed`](ForgetError::Closed), [`NoDriver`](ForgetError::NoDriver).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped half-way, some nodes may have forgotten the name. That affects no lock.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("order:81723").acquire().await?;
    /// // … the order is done and its name is never used again …
    /// guard.release().await?;
    /// redlock.forget("order:81723").await?;
    /// # Ok(()) }
    /// ```
    pub async fn forget(&self, name: impl AsRef<[u8]>) -> Result<NodeReplies, ForgetError> {
        let key = self.key(&Key::new(name.as_ref()))?;
        if self.shared.max_ttl.is_none() {
            return Err(InvalidInput::new(
                InvalidInputKind::Conflict,
                "a plain client has no fencing numbers: there is nothing to forget",
            )
            .of("mode")
            .about(&key)
            .into());
        }
        let votes = self.survey(RequestKind::Forget, name.as_ref()).await?.votes;
        let is_held = votes.iter().any(|vote| matches!(vote, Vote::HeldByOther { .. }));
        let forgot = votes.iter().filter(|vote| matches!(vote, Vote::Granted | Vote::NotHeld)).count();
        let report = self.replies(votes);
        match () {
            () if is_held => Err(ForgetError::HeldByOthers { key, replies: report }),
            () if !self.shared.quorum.get().is_met(forgot) => {
                Err(ForgetError::NoQuorum { key, replies: report })
            }
            () => Ok(report),
        }
    }
}
