//! What happened in many histories, counted.

use std::collections::BTreeMap;
use std::fmt;

use super::plan::Fault;
use crate::lease::LossReason;

/// What happened, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) histories: u64,
    pub(super) events: u64,
    pub(super) attempts: u64,
    pub(super) waits: u64,
    pub(super) notifications: u64,
    pub(super) acquired: u64,
    pub(super) fenced: u64,
    pub(super) in_two_rounds: u64,
    pub(super) abandoned: u64,
    pub(super) extensions: u64,
    pub(super) renewed: u64,
    pub(super) unconfirmed: u64,
    pub(super) released: u64,
    pub(super) late_commands: u64,
    pub(super) probes: u64,
    pub(super) reinitialized: u64,
    pub(super) losses: BTreeMap<&'static str, u64>,
    pub(super) faults: BTreeMap<Fault, u64>,
    /// Promises broken by what is beyond them: which, and by what.
    pub(super) exempted: BTreeMap<(Invariant, Cause), u64>,
}

/// The invariants, as DESIGN and the fault matrix number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// At most one lock of a key is valid at any true time.
    MutualExclusion,
    /// No two locks of a key have the same number.
    UniqueNumbers,
    /// A lock that was won before another was asked for has the smaller number.
    RealTimeOrder,
    /// Numbers are ordered as the locks are.
    GrantOrder,
    /// While a lock is valid, q nodes have its key.
    QuorumHoldsKey,
    /// Where a lock is confirmed, its key lives for as long as the lock.
    ConfirmedNodesHoldKey,
    /// A lock that renews itself stands on every node that has been well for two of its ttls.
    Redundancy,
    /// Who stands in line for a lock that is held leaves the nodes alone.
    NoPolling,
    /// Who waits for a lock that was given up has it soon, whatever stands on a minority of the nodes.
    NoStarvation,
    /// A renewal says that no other client had the lock meanwhile.
    ExclusiveRenewal,
    /// A loss is reported before it is one.
    LossReported,
    /// A release removes no other owner's key.
    OwnKeyOnly,
    /// In the end nothing is left but fences and markers, and nobody is at anything.
    Cleanup,
    /// Once all is well, a lock can be had.
    Liveness,
    /// A node that may have fence_loss_since has no part in a quorum.
    Membership,
    /// Nothing goes on without end.
    Termination,
}

/// What beyond the promise may have broken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    NodeClock,
    ClientClock,
    VmStop,
    KeyDeleted,
    /// Nodes forgot, and there is no probation (for plain clients), or so many forgot that it does not help.
    DataLoss,
    /// A role changed and changed back between two looks, and the data that came with it name the node as it was.
    RoleChangeUndetected,
    /// A node evicted keys, and those that have not looked since let it vote.
    EvictionUndetected,
    /// Somebody reset the statistics of a node, in which alone it stood that it has fence_loss_since.
    StatisticsReset,
    /// A node's clock was behind when it came up. Who first met the node after that was set right goes by it alone.
    ClockBehindAtStart,
    /// 2q − N or more nodes lost their fences, and with them a number far ahead of all clocks.
    MinFencingNumberLost,
    /// 2q − N or more nodes lost their fences, and clocks were wrong by half of the max ttl.
    DataLossAndClockError,
}

impl Cause {
    /// Whether it is over as soon as all have looked at the node.
    pub(super) const fn is_undetected(self) -> bool {
        matches!(self, Self::RoleChangeUndetected | Self::EvictionUndetected)
    }
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.events += other.events;
        self.attempts += other.attempts;
        self.waits += other.waits;
        self.notifications += other.notifications;
        self.acquired += other.acquired;
        self.fenced += other.fenced;
        self.in_two_rounds += other.in_two_rounds;
        self.abandoned += other.abandoned;
        self.extensions += other.extensions;
        self.renewed += other.renewed;
        self.unconfirmed += other.unconfirmed;
        self.released += other.released;
        self.late_commands += other.late_commands;
        self.probes += other.probes;
        self.reinitialized += other.reinitialized;
        for (loss, count) in &other.losses {
            *self.losses.entry(loss).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (what, count) in &other.exempted {
            *self.exempted.entry(*what).or_default() += count;
        }
    }

    pub(super) fn count_loss(&mut self, loss: LossReason) {
        let name = match loss {
            LossReason::Expired => "expired",
            LossReason::TakenByOthers => "taken",
            LossReason::ClockJump => "clock",
            LossReason::ClientClosed => "closed",
        };
        *self.losses.entry(name).or_default() += 1;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, events, attempts, acquired, .. } = self;
        writeln!(f, "{histories} histories, {events} events, {attempts} attempts, {acquired} locks")?;
        let two_rounds = self.in_two_rounds as f64 * 100.0 / self.fenced.max(1) as f64;
        writeln!(f, "{} of them with a number, {two_rounds:.1} % of those in two rounds", self.fenced)?;
        writeln!(
            f,
            "{} waits in line, {} notifications, {} extensions, {} renewals done, {} unconfirmed, {} releases, {} attempts abandoned, {} late commands of broken connections, {} probes, {} clusters reinitialized again",
            self.waits,
            self.notifications,
            self.extensions,
            self.renewed,
            self.unconfirmed,
            self.released,
            self.abandoned,
            self.late_commands,
            self.probes,
            self.reinitialized
        )?;
        writeln!(f, "losses: {:?}", self.losses)?;
        writeln!(f, "faults: {:?}", self.faults)?;
        write!(f, "promises broken by what is beyond them: {:?}", self.exempted)
    }
}
