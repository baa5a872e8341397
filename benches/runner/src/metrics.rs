//! The names of the metrics in the results.

use crate::worker::Threads;

pub(crate) fn acquire(nodes: usize, threads: Threads) -> String {
    format!("acquire p50, {nodes} nodes, {}", threads.name())
}

pub(crate) fn acquire_p99(nodes: usize, threads: Threads) -> String {
    format!("acquire p99, {nodes} nodes, {}", threads.name())
}

pub(crate) fn release(nodes: usize, threads: Threads) -> String {
    format!("release p50, {nodes} nodes, {}", threads.name())
}

pub(crate) fn per_second(tasks: usize) -> String {
    format!("locks per second, {tasks} tasks")
}

pub(crate) fn cpu(tasks: usize) -> String {
    format!("client's processor time, {tasks} tasks")
}

pub(crate) fn fault(fault: &str, metric: &str) -> String {
    format!("{fault}: {metric}")
}

pub(crate) fn leftover_keys(part: &str) -> String {
    format!("keys left, {part}")
}

/// The parts in which [`leftover_keys`] are counted.
pub(crate) const PARTS: [&str; 6] =
    ["uncontended", "throughput", "cancelled", "faults", "distance", "leases"];

pub(crate) const DISTANT: &str = "acquire p50, nodes far away";
pub(crate) const DISTANT_RELEASE: &str = "release p50, nodes far away";
/// Measured by PING, so its client is [`NO_CLIENT`].
pub(crate) const THIRD_ROUND_TRIP: &str = "third-fastest round trip";
pub(crate) const NO_CLIENT: &str = "-";

pub(crate) const LEASE_BYTES: &str = "bytes per held lock";
pub(crate) const WITHOUT_LEASES: &str = "locks per second without leases";
pub(crate) const WITH_LEASES: &str = "locks per second with 10,000 leases";
pub(crate) const READS: &str = "reads of a node for simultaneous renewals";
/// As many renewals as fit in one read of a server (16 KiB).
pub(crate) const SIMULTANEOUS_RENEWALS: usize = 32;

pub(crate) const FAULTS: [&str; 4] =
    ["dead after connect", "dead before connect", "paused after connect", "paused before connect"];
pub(crate) const FAULT_P50: &str = "acquire p50";
pub(crate) const FAULT_P50_RATIO: &str = "acquire p50 / healthy";
pub(crate) const LONGEST_ACQUIRE: &str = "longest acquire (ms)";
pub(crate) const FAULT_RATE_RATIO: &str = "throughput / healthy";

pub(crate) const INSTRUCTIONS: &str = "instructions";
pub(crate) const ALLOCATIONS: &str = "allocations";
pub(crate) const ALLOCATED_BYTES: &str = "bytes allocated";
pub(crate) const SYSTEM_CALLS: &str = "system calls";

pub(crate) const LOST_SIGNAL_LEAD: &str = "lost signal before the deadline";
pub(crate) const TAKEOVER: &str = "grant after a dead holder's keys expired";
