//! The kinds of faults.

/// A kind of fault that a history can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A connection breaks; some of the bytes in flight still arrive.
    ConnectionReset,
    /// No bytes pass from a client to a node, or back, or both ways, for a while.
    Partition,
    /// A client's process is paused; its clocks go on.
    ClientPause,
    /// A client's machine sleeps; its boot clock goes on.
    ClientSuspend,
    /// A client's virtual machine stops; its wall clock is corrected before it resumes.
    VmStop,
    ClientCrash,
    /// A client's wall clock is set forward or back.
    WallClockSet,
    /// A node's process is paused; its clock goes on.
    NodePause,
    /// A node's server restarts with all its data.
    Restart,
    /// A node's server restarts with no data.
    RestartDataLoss,
    /// A node's server restarts with data of an earlier time.
    RestartStaleData,
    /// `FLUSHALL`.
    Flush,
    /// A node becomes a replica and at once a master again, with the data of the other server.
    RoleChange,
    /// A node is a replica for a while and then a master with other data.
    DemotedToReplica,
    ScriptFlush,
    /// A node replies with errors for a while.
    ErrorReplies,
    /// A node's eviction policy may delete keys, and its memory is full from time to time.
    Eviction,
    /// `SWAPDB` leaves a node without data; later it is swapped back.
    DatabaseSwap,
    /// A node's server restarts with no or earlier data, and with its clock behind; the clock is corrected
    /// soon after.
    RestartClockBehind,
    /// `CONFIG RESETSTAT`.
    StatisticsReset,
    /// A node's clock is set forward by less than the drift allows.
    SmallClockJump,
    /// A node's clock is set back.
    ClockSetBack,
    /// A node's clock is set forward by more than the drift allows.
    ClockSetForward,
    /// A node's clock runs faster than the drift allows, for a while.
    FastNodeClock,
    /// A client's clock runs slower than the drift allows, for a while.
    SlowClientClock,
    /// A client's virtual machine stops, and its clocks do not show it.
    VmStopUndetected,
    /// An operator deletes a lock's key on a node.
    KeyDeleted,
    /// A node's address moves to another server, blank or with a copy of the data. Connections to the server
    /// that had it stay, and it goes on.
    AddressMoved,
}

/// The faults that the lock tolerates: no invariant may break.
pub(super) const FAULTS_WITHIN_LIMITS: [Fault; 23] = [
    Fault::ConnectionReset,
    Fault::Partition,
    Fault::ClientPause,
    Fault::ClientSuspend,
    Fault::VmStop,
    Fault::ClientCrash,
    Fault::WallClockSet,
    Fault::NodePause,
    Fault::Restart,
    Fault::RestartDataLoss,
    Fault::RestartStaleData,
    Fault::Flush,
    Fault::RoleChange,
    Fault::DemotedToReplica,
    Fault::ScriptFlush,
    Fault::ErrorReplies,
    Fault::Eviction,
    Fault::StatisticsReset,
    Fault::DatabaseSwap,
    Fault::RestartClockBehind,
    Fault::SmallClockJump,
    Fault::ClockSetBack,
    Fault::AddressMoved,
];

/// The faults beyond the guarantees. They may break mutual exclusion, but never the order of the fencing
/// numbers.
pub(super) const FAULTS_BEYOND_LIMITS: [Fault; 5] = [
    Fault::ClockSetForward,
    Fault::FastNodeClock,
    Fault::SlowClientClock,
    Fault::VmStopUndetected,
    Fault::KeyDeleted,
];
