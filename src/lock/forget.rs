//! Forgetting a name: its last number goes from the nodes before its time.

use super::client::Redlock;
use super::error::Invalid;
use super::report::Report;
use crate::driver::Order;
use crate::protocol::claim::{Key, Phase};
use crate::protocol::vote::Vote;

/// Why a name was not forgotten.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The name cannot be a lock's, or the client is plain and knows no numbers.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A node shows a key of this name: the lock is held, or something is left of it.
    #[error("lock {name:?} is not forgotten: held: {report}; release it first, or wait until it has run out")]
    Held {
        /// The lock's name.
        name: String,
        /// What each node said.
        report: Report,
    },
    /// Too few nodes answered. Those that did have forgotten it; forget it again later.
    #[error("lock {name:?} is not forgotten on a quorum of nodes: {report}; try again")]
    NoQuorum {
        /// The lock's name.
        name: String,
        /// What each node said.
        report: Report,
    },
    /// The client was shut down.
    #[error("the client is closed")]
    Closed,
}

impl Redlock {
    /// Forgets a name that is not locked and will not be soon: its last fencing number goes from every node as soon as
    /// that is safe, instead of after [`keep_fences`](super::Builder::keep_fences). For names that are used once, such as
    /// those of queue items or orders: each that is remembered costs each node about 140 bytes.
    ///
    /// A node forgets the number when its clock has passed it by the longest ttl, so this never waits, and numbers go on
    /// to grow if the name is locked again, at once or ever. Only a node's clock that is set back by more than the
    /// longest ttl can then make them fall. Forgetting what is forgotten is no error. [`Granted`](Vote::Granted) in the
    /// report is a node that has forgotten it, or will; [`Missing`](Vote::Missing) one that knew nothing.
    ///
    /// # Errors
    ///
    /// [`Held`](ForgetError::Held) if a node shows a key of this name, [`NoQuorum`](ForgetError::NoQuorum) if fewer than a
    /// quorum of nodes answered, [`Invalid`](ForgetError::Invalid) for a bad name and for a plain client,
    /// [`Closed`](ForgetError::Closed).
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
    pub async fn forget(&self, name: impl AsRef<str>) -> Result<Report, ForgetError> {
        let name = name.as_ref();
        let key = self.key(&Key::new(name))?;
        if self.shared.longest_ttl.is_none() {
            return Err(
                Invalid::new("a plain client knows no fencing numbers: there is nothing to forget").into()
            );
        }
        self.ready().await;
        let (id, phase) = (self.shared.orders.id(), Phase::Forget);
        let asked = self.shared.ask(|reply| Order::Survey { id, phase, key, reply }).await;
        let votes = asked.ok_or(ForgetError::Closed)?.votes;
        let is_held = votes.iter().any(|vote| matches!(vote, Vote::Held { .. }));
        let forgot = votes.iter().filter(|vote| matches!(vote, Vote::Granted | Vote::Missing)).count();
        let (name, report) = (name.to_owned(), self.report(votes));
        match () {
            () if is_held => Err(ForgetError::Held { name, report }),
            () if !self.shared.quorum.is_met(forgot) => Err(ForgetError::NoQuorum { name, report }),
            () => Ok(report),
        }
    }
}
