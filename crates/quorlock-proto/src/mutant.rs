//! Known mistakes, to be made on purpose.
//!
//! Each of them breaks some promise of the lock, and each was found in a published library or in a draft of this
//! one. The tests switch on one at a time and expect the model or the simulation to catch it: a checker that catches
//! none proves nothing. Outside tests all of this is compiled away.

/// A mistake in the protocol itself. (Those of a script, a connection or a clock are made by the simulated ones.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The deadline counts from the last reply instead of from before the first byte.
    ValidityFromReply,
    /// A renewal counts also when it completes after the old deadline.
    LateRenewal,
    /// A renewal counts after the old deadline, and nodes take a missing key anew for it.
    ResurrectingRenewal,
    /// A node that forgot votes at once.
    NoProbation,
    /// A node that forgot votes after half of the max ttl.
    ShortProbation,
    /// The number is the largest of the grants, whether or not q nodes have it.
    NoSecondRound,
    /// A quorum is a majority of the nodes that are connected.
    QuorumOfConnected,
    /// A key that is taken again is good for as long as the lock, whatever was asked for and whenever the answer comes.
    ReacquiredGrantNeverExpires,
    /// A key that is taken again is good for the round that is under way when the answer comes.
    ReacquiredInAnyRound,
    /// A grant that comes late is good for as long as the lock, also where that was extended meanwhile.
    LateGrantNeverExpires,
    /// A blank node is taken in on the word of nodes that are away, and may have forgotten it since.
    DisconnectedNodesConfirm,
    /// A node with a larger number than the lock's is given up for good, whoever's it is.
    FencedOutForever,
    /// A larger number is taken for nobody's without asking a quorum.
    LargerFenceUnverified,
    /// When a node was told to remember is known by the node's own clock alone.
    NoWriterClock,
    /// Who knew a node when it changed goes by the node's clock alone for how long ago that was.
    NoOwnClockWait,
    /// Who stands in line goes by what the node with the line says, for ever.
    WaitQueueTrustedForever,
    /// A change of role, which replaces the data, is not seen as a change of the node.
    IgnoresRoleChange,
    /// A clock that was set back behind what its node remembers of it is taken as it is.
    IgnoresClockSetBack,
}

/// Whether this mistake is to be made.
#[cfg(not(test))]
#[must_use]
pub(crate) const fn enabled(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{enabled, with};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static MADE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this mistake is to be made, on this thread.
    #[must_use]
    pub(crate) fn enabled(mutant: Mutant) -> bool {
        MADE.get() == Some(mutant)
    }

    /// Runs something with this mistake, on this thread.
    pub(crate) fn with<T>(mutant: Option<Mutant>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Mutant>);
        impl Drop for Restore {
            fn drop(&mut self) {
                MADE.set(self.0);
            }
        }
        let _restore = Restore(MADE.replace(mutant));
        body()
    }
}
