//! What the rows of figures are called.

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

pub(crate) fn fault(fault: &str, what: &str) -> String {
    format!("{fault}: {what}")
}

pub(crate) fn left_over(part: &str) -> String {
    format!("keys left, {part}")
}

/// The part in which a row of [`left_over`] was counted.
pub(crate) const PARTS: [&str; 6] =
    ["uncontended", "throughput", "cancelled", "faults", "distance", "leases"];

pub(crate) const DISTANT: &str = "acquire p50, nodes far away";
pub(crate) const DISTANT_RELEASE: &str = "release p50, nodes far away";
/// Whose figure it is has no name of a client.
pub(crate) const THIRD: &str = "third-fastest round trip";
pub(crate) const NO_CLIENT: &str = "-";

pub(crate) const LEASE_BYTES: &str = "bytes per held lock";
pub(crate) const WITHOUT_LEASES: &str = "locks per second without leases";
pub(crate) const WITH_LEASES: &str = "locks per second with 10,000 leases";
pub(crate) const READS: &str = "reads of a node for the renewals of one instant";
/// So many that their renewals fit in what a server reads at once (16 KiB).
pub(crate) const AT_ONE_INSTANT: usize = 32;

pub(crate) const FAULTS: [&str; 4] =
    ["dead after connect", "dead before connect", "paused after connect", "paused before connect"];
pub(crate) const HURT: &str = "acquire p50";
pub(crate) const HURT_P50: &str = "acquire p50 / healthy";
pub(crate) const LONGEST: &str = "longest acquire (ms)";
pub(crate) const HURT_RATE: &str = "throughput / healthy";

pub(crate) const INSTRUCTIONS: &str = "instructions";
pub(crate) const ALLOCATIONS: &str = "allocations";
pub(crate) const ALLOCATED: &str = "bytes allocated";
pub(crate) const CALLS: &str = "system calls";

pub(crate) const LEAD: &str = "lost signal before the deadline";
pub(crate) const TAKEOVER: &str = "grant after a dead holder's keys expired";
