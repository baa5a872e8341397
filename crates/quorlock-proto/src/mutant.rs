//! Mutants: known mistakes that tests switch on to prove that a checker detects them (mutation testing).
//!
//! Each mutant breaks an invariant of the lock. Each was found in a published library or in a draft of this
//! one. Tests switch on one at a time and expect the model or the simulation to detect it. Outside tests all
//! of this is compiled away.

/// A known mistake in the protocol. (The simulation has those of a script, a connection or a clock.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The deadline counts from the last reply, not from before the first byte was sent.
    ValidityFromReply,
    /// A renewal also counts when it completes after the old deadline.
    LateRenewal,
    /// A renewal counts after the old deadline, and nodes set a missing key again for it.
    ResurrectingRenewal,
    /// A node that lost data votes at once.
    NoProbation,
    /// A node that lost data votes after half of the max ttl.
    ShortProbation,
    /// The fencing number is the largest of the grants, whether or not q nodes have it.
    NoSecondRound,
    /// A quorum is a majority of the nodes that are connected.
    QuorumOfConnected,
    /// A reacquired key counts for the whole lease, whatever its ttl and however late its reply.
    ReacquiredGrantNeverExpires,
    /// A reacquired key counts for the round that runs when its reply arrives.
    ReacquiredInAnyRound,
    /// A late grant counts for the whole lease, also after the lease was extended.
    LateGrantNeverExpires,
    /// A node with a larger fence than the lock's number never counts again, even if no client won with that
    /// fence.
    FencedOutForever,
    /// A larger fence counts as harmless without a renewal that proves that no client won with it.
    LargerFenceUnproved,
    /// The time of a marker's write is known only by the node's own clock.
    NoWriterClock,
    /// A client that saw a node change measures the time since then only by the node's clock.
    NoOwnClockWait,
    /// A waiter trusts the node with its wait queue forever.
    WaitQueueTrustedForever,
    /// A change of role, which replaces the data, does not change the incarnation.
    IgnoresRoleChange,
    /// A client with another list of nodes changes the roster too.
    AnyListAdopts,
    /// The probation of a new member counts from before its roster was chosen.
    ProbationBeforeChoice,
    /// The votes of one round may be cast under two rosters.
    RoundOfTwoRosters,
    /// A proposer does not take over the proposal that another client's ballot left.
    NoPromise,
    /// A server votes under a proposal as soon as it accepts it, so a roster is in force where q servers have it.
    InForceByCount,
    /// A node that has promised a ballot on the next roster still votes.
    PromiseDoesNotSeal,
    /// A restarted server keeps its seat, and what its data say.
    SeatSurvivesRestart,
    /// A server whose seat was given away votes.
    LostSeatVotes,
    /// A step of a reconfiguration does not wait until the locks of the roster before have ended.
    StepsAtOnce,
    /// A shorter max ttl shortens the probation at once.
    ShortensProbationAtOnce,
    /// A roster does not say what numbers the members of earlier ones gave out.
    NoFenceBase,
    /// A node clock that was set back behind the time noted on the node is accepted.
    IgnoresClockSetBack,
}

/// Whether this mutant is switched on.
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
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this mutant is switched on, on this thread.
    #[must_use]
    pub(crate) fn enabled(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Runs `body` with this mutant switched on, on this thread.
    pub(crate) fn with<T>(mutant: Option<Mutant>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Mutant>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ACTIVE.set(self.0);
            }
        }
        let _restore = Restore(ACTIVE.replace(mutant));
        body()
    }
}
