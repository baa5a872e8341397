//! Statistics of histories, and the invariants that they check.

use std::collections::BTreeMap;
use std::fmt;

use super::plan::Fault;
use super::situations::Situation;
use crate::lease::LossReason;

/// Counts of what happened in one or more histories.
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
    pub(super) cancelled: u64,
    pub(super) extensions: u64,
    pub(super) renewed: u64,
    pub(super) unconfirmed: u64,
    pub(super) released: u64,
    pub(super) tickets: u64,
    pub(super) adopted: u64,
    pub(super) not_adopted: u64,
    pub(super) late_commands: u64,
    pub(super) probes: u64,
    pub(super) reinitialized: u64,
    pub(super) losses: BTreeMap<&'static str, u64>,
    pub(super) faults: BTreeMap<Fault, u64>,
    pub(super) situations: BTreeMap<Situation, u64>,
    /// Broken invariants that were exempted, by invariant and cause.
    pub(super) exempted: BTreeMap<(Invariant, Cause), u64>,
}

/// An invariant of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// At most one lock of a key is valid at any true time.
    MutualExclusion,
    /// No two locks of a key have the same fencing number.
    UniqueNumbers,
    /// A lock that was acquired before another was requested has the smaller fencing number.
    RealTimeOrder,
    /// Fencing numbers have the order of the grants on every shared node.
    GrantOrder,
    /// While a lock is valid, q nodes have its key.
    QuorumHoldsKey,
    /// On a confirmed node, the key lives for as long as the lock.
    ConfirmedNodesHoldKey,
    /// With automatic renewal, a lock's key is on every node that no fault affected for two of its TTLs.
    Redundancy,
    /// Tasks that wait for a held lock do not poll the nodes.
    NoPolling,
    /// A waiting task soon acquires a released lock, whatever keys a minority of the nodes has.
    NoStarvation,
    /// A renewal proves that no other client had the lock meanwhile.
    ExclusiveRenewal,
    /// An adoption proves that no other client had the lock since its ticket's holder.
    ContinuousAdoption,
    /// A loss is reported before the deadline.
    LossReported,
    /// A release deletes no other owner's key, and an adoption takes none.
    OwnKeyOnly,
    /// At the end only fences and markers are left, and no client is busy.
    Cleanup,
    /// Without faults, every lock can be acquired.
    Liveness,
    /// A node that may have lost data is not part of a quorum.
    Membership,
    /// Every history ends.
    Termination,
}

/// A fault beyond the guarantees, which exempts a broken invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    NodeClock,
    ClientClock,
    VmStop,
    KeyDeleted,
    /// Nodes lost data, and the clients are plain and use no probation, or too many nodes did so for it to
    /// help.
    DataLoss,
    /// A role changed and changed back between two marker reads, and the new data carry the node's own
    /// marker.
    RoleChangeUndetected,
    /// A node evicted keys, and clients that had not read the marker since counted its votes.
    EvictionUndetected,
    /// An operator reset the statistics that alone showed a node's data loss.
    StatisticsReset,
    /// A node started with its clock behind. A client that first met it after the correction relies on that
    /// clock alone.
    ClockBehindAtStart,
    /// 2q − N or more nodes lost their fences, and with them a fencing number far ahead of all clocks.
    MinFencingNumberLost,
    /// 2q − N or more nodes lost their fences, and clocks were wrong by half of the max TTL.
    DataLossAndClockError,
    /// While the lock cluster was reconfigured, all servers that clients of another list reached were without memory,
    /// and these clients made a lock cluster of them.
    SecondLockCluster,
    /// After the max TTL was made longer, so many servers got data from before it that a recovery followed the earlier
    /// roster, with its probation.
    LongerTtlForgotten,
    /// So many addresses moved to other servers that fewer than q members of the roster kept data and address.
    AddressesMoved,
}

impl Cause {
    /// Whether it ends as soon as all clients have read the node's marker.
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
        self.cancelled += other.cancelled;
        self.extensions += other.extensions;
        self.renewed += other.renewed;
        self.unconfirmed += other.unconfirmed;
        self.released += other.released;
        self.tickets += other.tickets;
        self.adopted += other.adopted;
        self.not_adopted += other.not_adopted;
        self.late_commands += other.late_commands;
        self.probes += other.probes;
        self.reinitialized += other.reinitialized;
        for (loss, count) in &other.losses {
            *self.losses.entry(loss).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (situation, count) in &other.situations {
            *self.situations.entry(*situation).or_default() += count;
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
        writeln!(
            f,
            "{} of them with a fencing number, {two_rounds:.1} % of those in two rounds",
            self.fenced
        )?;
        writeln!(
            f,
            "{} waits, {} notifications, {} extensions, {} renewals, {} unconfirmed renewals, {} releases, {} attempts cancelled, {} late commands of broken connections, {} probes, {} lock clusters initialized again",
            self.waits,
            self.notifications,
            self.extensions,
            self.renewed,
            self.unconfirmed,
            self.released,
            self.cancelled,
            self.late_commands,
            self.probes,
            self.reinitialized
        )?;
        let Self { tickets, adopted, not_adopted, .. } = self;
        writeln!(f, "{tickets} locks handed over, {adopted} adopted, {not_adopted} adoptions failed")?;
        writeln!(f, "losses: {:?}", self.losses)?;
        writeln!(f, "faults: {:?}", self.faults)?;
        writeln!(f, "situations: {:?}", self.situations)?;
        write!(f, "exempted violations: {:?}", self.exempted)
    }
}
