//! Looking at a lock without taking it, and breaking one that nobody will free.

use std::time::Duration;

use super::client::Redlock;
use super::error::{InspectError, NoAnswer};
use super::replies::NodeReplies;
use crate::driver::{DriverCommand, NodeStatus, SurveyResult};
use quorlock_proto::request::{Key, OwnerHash, RequestKind};
use quorlock_proto::vote::{KeyOwner, Vote};

/// Who holds a name, node by node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// What each node shows.
    pub nodes: Vec<NodeInspection>,
    /// How many nodes make a lock.
    pub quorum: usize,
}

/// What one node shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInspection {
    /// The node's address.
    pub node: String,
    /// What it answered: [`Vote::Inspected`], or why there is no answer.
    pub reply: Vote,
    /// Whether the holder is a guard or an attempt of this client.
    pub is_ours: bool,
    /// Whether the node votes, so that its word counts: one that may have forgotten keys shows none of them. Known to a client
    /// that stays connected after a quarter of the longest ttl at the latest.
    pub is_voting: bool,
}

impl Inspection {
    /// Whether one owner has a quorum of the nodes: its mark, and for how much longer at the least.
    ///
    /// A minority key (left by a client that died half-way, or of an attempt under way) is no lock.
    #[must_use]
    pub fn holder(&self) -> Option<(OwnerHash, Option<Duration>)> {
        let owners = || self.nodes.iter().filter_map(NodeInspection::owner);
        let (mark, _) =
            owners().find(|(mark, _)| owners().filter(|(other, _)| other == mark).count() >= self.quorum)?;
        // The lock stands while q of its keys do: the q-th longest of their lives.
        let mut lives: Vec<Duration> = owners()
            .filter(|(other, _)| *other == mark)
            .map(|(_, remaining)| remaining.unwrap_or(Duration::MAX))
            .collect();
        lives.sort_unstable_by(|one, other| other.cmp(one));
        let life = lives.get(self.quorum - 1).copied().filter(|life| *life != Duration::MAX);
        Some((mark, life))
    }

    /// How many nodes answered.
    #[must_use]
    pub fn reply_count(&self) -> usize {
        self.nodes.iter().filter(|sight| matches!(sight.reply, Vote::Inspected(_))).count()
    }

    /// Whether the lock can be had, as far as these answers tell: nobody holds it, and a quorum of nodes that vote show no
    /// key at all. A node that may have forgotten the holder's key, or where it was deleted, shows none either: the first
    /// kind does not count, and one owner on a quorum of the others is a holder whatever they show.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let is_bare = |sight: &&NodeInspection| {
            sight.is_voting && matches!(&sight.reply, Vote::Inspected(it) if it.holder == KeyOwner::Unheld)
        };
        self.holder().is_none() && self.nodes.iter().filter(is_bare).count() >= self.quorum
    }
}

impl NodeInspection {
    fn owner(&self) -> Option<(OwnerHash, Option<Duration>)> {
        match &self.reply {
            Vote::Inspected(sighting) => match sighting.holder {
                KeyOwner::Owner(mark) => Some((mark, sighting.remaining)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Redlock {
    /// Asks every node who holds this name and for how long. Takes nothing, changes nothing.
    ///
    /// What comes back was true on each node when it answered; it may have changed since.
    ///
    /// # Errors
    ///
    /// Only for a bad name, a closed client, or a driver that does not run. Nodes that do not answer within the node time-out say so in the
    /// result.
    pub async fn inspect(&self, name: impl AsRef<str>) -> Result<Inspection, InspectError> {
        let SurveyResult { votes, ours } = self.survey(RequestKind::Inspect, name.as_ref()).await?;
        // Asked afterwards: a node that was found to have forgotten meanwhile is no witness.
        let voting: Vec<bool> = self.shared.view.borrow().iter().map(NodeStatus::is_voting).collect();
        let sights = self.shared.names.iter().map(ToString::to_string).zip(votes).zip(ours).zip(voting);
        let nodes = sights
            .map(|(((node, vote), is_ours), votes)| NodeInspection {
                node,
                reply: vote,
                is_ours,
                is_voting: votes,
            })
            .collect();
        Ok(Inspection { nodes, quorum: self.shared.quorum.needed() })
    }

    /// Deletes this name's key on every node, **whoever holds it**: for a holder that hangs, and for a key that nobody will
    /// ever free (one without expiry, or of another type). The process that has waited longest gets the lock at once.
    ///
    /// A living holder is not asked, and works on until its next renewal, at a third of its ttl, while a second one may be
    /// in. Then it is told that the lock is lost: its number is a smaller one from here on, where the break reached a
    /// quorum. A break that reached fewer nodes does the lock no harm.
    ///
    /// **In plain mode** there are no numbers: a living holder takes the missing key again at its next renewal, unless
    /// another has it by then. Stop the holder first.
    ///
    /// # Errors
    ///
    /// Only for a bad name, a closed client, or a driver that does not run. The report says [`Granted`](Vote::Granted) where a key was deleted,
    /// [`NotHeld`](Vote::NotHeld) where there was none.
    pub async fn force_release(&self, name: impl AsRef<str>) -> Result<NodeReplies, InspectError> {
        let SurveyResult { votes, .. } = self.survey(RequestKind::ForceRelease, name.as_ref()).await?;
        // Not before all nodes have answered: the break would delete the keys of a waiter that is called too soon.
        self.shared.orders.send(DriverCommand::NotifyNext { key: self.key(&Key::new(name.as_ref()))? });
        Ok(self.replies(votes))
    }

    /// [Breaks](Self::force_release) the lock of one holder, and of no later one: each node deletes the key only if its owner's
    /// token has this mark, which an [inspection](Self::inspect) showed. The node compares and deletes in one step.
    ///
    /// Where another holder's key stands, or none, nothing is done. So the holder is out only where its key was deleted
    /// on more than N − q nodes: then the others are too few for a quorum, and it is told that the lock is lost. Where
    /// fewer nodes had its key, or answered, a living holder may take the missing ones again.
    ///
    /// A mark has 32 bits: that a later holder has the same one is a matter of 1 in 4 billion.
    ///
    /// # Errors
    ///
    /// As for [`force_release`](Self::force_release). The report says [`Granted`](Vote::Granted) where this holder's key was deleted,
    /// [`NotHeld`](Vote::NotHeld) where there was none, and [`HeldByOther`](Vote::HeldByOther) where another's key stands.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let seen = redlock.inspect("nightly").await?;
    /// if let Some((mark, _)) = seen.holder() {
    ///     // … somebody finds out that this holder hangs …
    ///     redlock.break_lock_of("nightly", mark).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn force_release_of(
        &self,
        name: impl AsRef<str>,
        mark: OwnerHash,
    ) -> Result<NodeReplies, InspectError> {
        let SurveyResult { votes, .. } = self.survey(RequestKind::BreakOf(mark), name.as_ref()).await?;
        if votes.contains(&Vote::Granted) {
            self.shared.orders.send(DriverCommand::NotifyNext { key: self.key(&Key::new(name.as_ref()))? });
        }
        Ok(self.replies(votes))
    }

    pub(super) async fn survey(&self, phase: RequestKind, name: &str) -> Result<SurveyResult, InspectError> {
        let key = self.key(&Key::new(name))?;
        let of = |why| InspectError::unanswered(why, &key);
        self.shared.is_here().map_err(|why| of(NoAnswer::NoDriver(why)))?;
        self.ready().await;
        let (id, asked) = (self.shared.orders.id(), key.clone());
        let command = |reply| DriverCommand::Survey { id, phase, key: asked, reply };
        self.shared.call(Some(self.shared.reply_timeout), command).await.map_err(of)
    }
}
