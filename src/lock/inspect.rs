//! Inspecting a lock without acquiring it, and force-releasing one whose holder does not free it.

use std::sync::Arc;
use std::time::Duration;

use super::client::Redlock;
use super::error::{InspectError, NoReply};
use crate::driver::{DriverCommand, SurveyResult};
use crate::view::{NodeReplies, NodeReply, NodeStatus};
use quorlock_proto::request::{Key, OwnerHash, RequestKind};
use quorlock_proto::vote::{KeyOwner, Vote};

/// The holder of a name, as each node reports it.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let seen = redlock.inspect("nightly").await?;
/// for node in &seen.nodes {
///     println!("{}: {}", node.node, node.reply);
/// }
/// println!("{} of {} nodes replied, {} are needed", seen.reply_count(), seen.nodes.len(), seen.quorum);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Inspection {
    /// What each node reports.
    pub nodes: Vec<NodeInspection>,
    /// The number of nodes that make a lock.
    pub quorum: usize,
}

/// What one node reports.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::NodeReply;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let seen = redlock.inspect("nightly").await?;
/// for node in seen.nodes.iter().filter(|node| !node.is_voting) {
///     if let NodeReply::Inspected(state) = &node.reply {
///         println!("{} does not vote, and replies: {state}", node.node);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeInspection {
    /// The node's address.
    pub node: Arc<str>,
    /// The reply: [`NodeReply::Inspected`], or why there is none.
    pub reply: NodeReply,
    /// Whether the holder is a guard or an attempt of this client.
    pub is_ours: bool,
    /// Whether the node votes, so that its reply counts: a node that may have lost data may lack the key. A client that
    /// stays connected knows this after a quarter of the max TTL at the latest.
    pub is_voting: bool,
}

/// The holder of a lock.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// if let Some(holder) = redlock.inspect("nightly").await?.holder() {
///     match holder.remaining {
///         Some(remaining) => println!("held by #{} for {remaining:?}, unless it is renewed", holder.owner),
///         None => println!("held by #{}, without expiry", holder.owner),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Its hash, to compare with [`Guard::owner_hash`](crate::Guard::owner_hash).
    pub owner: OwnerHash,
    /// How much longer its lock lasts at least, unless it is renewed; `None` if it never expires.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "remaining_ms",
            serialize_with = "quorlock_proto::serialize_duration::optional_millis"
        )
    )]
    pub remaining: Option<Duration>,
}

impl Inspection {
    /// The owner that has a quorum of the nodes, if there is one.
    ///
    /// A key on a minority of nodes is no lock. A client that died half-way left it, or an attempt is running.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let guard = redlock.mutex("nightly").acquire().await?;
    /// let holder = redlock.inspect("nightly").await?.holder();
    /// assert!(holder.is_some_and(|holder| holder.owner == guard.owner_hash()));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let owners = || self.nodes.iter().filter_map(NodeInspection::owner);
        let (owner, _) = owners()
            .find(|(owner, _)| owners().filter(|(other, _)| other == owner).count() >= self.quorum)?;
        // The lock exists while q of its keys do, so take the q-th longest of their remaining times.
        let mut remaining: Vec<Duration> = owners()
            .filter(|(other, _)| *other == owner)
            .map(|(_, remaining)| remaining.unwrap_or(Duration::MAX))
            .collect();
        remaining.sort_unstable_by(|one, other| other.cmp(one));
        let remaining =
            remaining.get(self.quorum - 1).copied().filter(|remaining| *remaining != Duration::MAX);
        Some(Holder { owner, remaining })
    }

    /// Whether the lock is held: an owner has a quorum of the nodes. Neither this nor [`is_free`](Self::is_free) is
    /// true if too few nodes replied to tell.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if redlock.inspect("deployment").await?.is_held() {
    ///     println!("a deployment is running");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.holder().is_some()
    }

    /// The number of nodes that replied.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let seen = redlock.inspect("nightly").await?;
    /// if seen.reply_count() < seen.quorum {
    ///     eprintln!("too few nodes replied: the lock may be held or free");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reply_count(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.reply, NodeReply::Inspected(_))).count()
    }

    /// Whether the lock is free, as far as these replies show: there is no holder, and a quorum of voting nodes have no
    /// key. A node that may have lost the holder's key, or where that key was deleted, has no key either. The first
    /// kind does not count. If one owner has a quorum of the other nodes, it is the holder, whatever these nodes show.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if redlock.inspect("order:81723").await?.is_free() {
    ///     redlock.forget("order:81723").await?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_free(&self) -> bool {
        let is_key_absent = |node: &&NodeInspection| {
            node.is_voting && matches!(&node.reply, NodeReply::Inspected(it) if it.holder == KeyOwner::Unheld)
        };
        self.holder().is_none() && self.nodes.iter().filter(is_key_absent).count() >= self.quorum
    }
}

impl NodeInspection {
    fn owner(&self) -> Option<(OwnerHash, Option<Duration>)> {
        match &self.reply {
            NodeReply::Inspected(state) => match state.holder {
                KeyOwner::Owner(hash) => Some((hash, state.remaining)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Redlock {
    /// Queries every node for the holder of this name and the remaining time. Changes nothing.
    ///
    /// Each reply was true on its node when the node sent it; it may have changed since.
    ///
    /// # Errors
    ///
    /// Only for an invalid name, a closed client, or a driver that does not run. For nodes that do not reply within the
    /// reply timeout, the result says so.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point: it changes nothing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::error::InspectError> {
    /// let seen = redlock.inspect("nightly").await?;
    /// match seen.holder() {
    ///     Some(holder) => println!("held by #{}", holder.owner),
    ///     None if seen.is_free() => println!("free"),
    ///     None => println!("unknown: {} nodes replied", seen.reply_count()),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn inspect(&self, name: impl AsRef<[u8]>) -> Result<Inspection, InspectError> {
        let SurveyResult { votes, is_ours_per_node } =
            self.survey(RequestKind::Inspect, name.as_ref()).await?;
        // Read this after the replies: a node that was found to have lost data in the meantime must not count.
        let voting: Vec<bool> = self.shared.status.borrow().iter().map(NodeStatus::is_voting).collect();
        let inspections = self
            .shared
            .names
            .iter()
            .cloned()
            .zip(votes.into_iter().map(NodeReply::from))
            .zip(is_ours_per_node)
            .zip(voting);
        let nodes = inspections
            .map(|(((node, reply), is_ours), is_voting)| NodeInspection { node, reply, is_ours, is_voting })
            .collect();
        Ok(Inspection { nodes, quorum: self.shared.quorum.get().needed() })
    }

    /// Deletes this name's key on every node, **whichever process holds it**. Use it for a holder that hangs, and for a
    /// key that is never freed (one without expiry, or of another type). The process that has waited longest gets the
    /// lock at once.
    ///
    /// A living holder gets no warning. It works on until its next renewal, at a third of its ttl, while a second
    /// holder may already work. Then it learns that the lock is lost: if the force release reached a quorum, its
    /// fencing number is fenced out. A force release that reached fewer nodes does not end the lock.
    ///
    /// **In plain mode** there are no fencing numbers: a living holder sets the missing key again at its next renewal,
    /// unless another client has it by then. Stop the holder first.
    ///
    /// # Errors
    ///
    /// Only for an invalid name, a closed client, or a driver that does not run. In the replies,
    /// [`Granted`](NodeReply::Granted) means that a key was deleted, and [`NotHeld`](NodeReply::NotHeld) that there was none.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped half-way, some nodes may have deleted the key, and no waiter is notified: call it again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), quorlock::error::InspectError> {
    /// println!("{}", redlock.force_release("nightly").await?);
    /// # Ok(()) }
    /// ```
    pub async fn force_release(&self, name: impl AsRef<[u8]>) -> Result<NodeReplies, InspectError> {
        let SurveyResult { votes, .. } = self.survey(RequestKind::ForceRelease, name.as_ref()).await?;
        // Notify only after all nodes have replied: otherwise the force release would delete the keys of a waiter that
        // was notified too soon.
        self.shared.commands.send(DriverCommand::NotifyNext { key: self.key(&Key::new(name.as_ref()))? });
        Ok(self.replies(votes))
    }

    /// [Force-releases](Self::force_release) the lock of one holder, and of no later one. Each node deletes the key
    /// only if its owner token has this hash, which an [inspection](Self::inspect) showed. The node compares and
    /// deletes in one step.
    ///
    /// If a node has another holder's key, or none, it does nothing. So the holder loses its lock only if its key was
    /// deleted on more than N − q nodes. Then the others are too few for a quorum, and the holder gets the lost
    /// signal. If fewer nodes had its key, or replied, a living holder may set the missing keys again.
    ///
    /// A hash has 32 bits: the probability that a later holder has the same one is 1 in 4 billion.
    ///
    /// # Errors
    ///
    /// As for [`force_release`](Self::force_release). In the replies, [`Granted`](NodeReply::Granted) means that this
    /// holder's key was deleted, [`NotHeld`](NodeReply::NotHeld) that there was none, and [`HeldByOther`](NodeReply::HeldByOther)
    /// that another holder's key is there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped half-way, some nodes may have deleted the key, and no waiter is notified: call it again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let seen = redlock.inspect("nightly").await?;
    /// if let Some(holder) = seen.holder() {
    ///     // … an operator finds out that this holder hangs …
    ///     redlock.force_release_of("nightly", holder.owner).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn force_release_of(
        &self,
        name: impl AsRef<[u8]>,
        hash: OwnerHash,
    ) -> Result<NodeReplies, InspectError> {
        let SurveyResult { votes, .. } = self.survey(RequestKind::BreakOf(hash), name.as_ref()).await?;
        if votes.contains(&Vote::Granted) {
            self.shared.commands.send(DriverCommand::NotifyNext { key: self.key(&Key::new(name.as_ref()))? });
        }
        Ok(self.replies(votes))
    }

    pub(super) async fn survey(&self, kind: RequestKind, name: &[u8]) -> Result<SurveyResult, InspectError> {
        let key = self.key(&Key::new(name))?;
        let error = |reason| InspectError::no_reply(reason, &key);
        self.shared.check_not_forked().map_err(|reason| error(NoReply::NoDriver(reason)))?;
        self.wait_until_ready().await;
        let (id, requested) = (self.shared.commands.id(), key.clone());
        let command = |reply| DriverCommand::Survey { id, kind, key: requested, reply };
        self.shared.call(Some(self.shared.reply_timeout), command).await.map_err(error)
    }
}
