//! Addresses that move to other servers, and clients whose list or settings differ.

use super::plan::{Fault, Profile};
use super::runner;
use super::stats::Invariant;

/// Addresses move while connections to the servers that had them stay.
pub(super) const MOVED_ADDRESSES: Profile = Profile {
    nodes: &[3, 3, 5],
    super_majority: 100,
    clients: (3, 4),
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[
        Fault::AddressMoved,
        Fault::ConnectionReset,
        Fault::Partition,
        Fault::ClientPause,
        Fault::Restart,
        Fault::RestartDataLoss,
    ],
    clock_offsets: 0,
    far_min_numbers: 0,
    waiters: 0,
    checks_redundancy: false,
    other_lists: 500,
    adjust: Some(|plan| {
        plan.fault_interval = plan.fault_interval.max(plan.max_ttl.as_nanos() as u64 / 6);
        plan.faults_nanos *= 2;
        plan.has_misconfigured_client = !plan.has_other_list && plan.is_initialized;
        // If all nodes lose their data, such a client founds a lock cluster with a shorter probation.
        plan.is_other_max_ttl_shorter = !plan.faults.contains(&Fault::RestartDataLoss);
    }),
    ..Profile::GENERAL
};

#[test]
fn moved_addresses_and_other_lists_keep_every_invariant() {
    let count = super::from_env("QUORLOCK_HISTORIES").unwrap_or(2_000);
    let (stats, finding) = runner::run_all(0, count, &MOVED_ADDRESSES);
    if let Some(finding) = finding {
        let log = runner::replay_log(finding.seed, &MOVED_ADDRESSES);
        panic!("{log}\n{}: {:?}", finding.seed, finding.violation);
    }
    println!("{stats}");
    assert!(
        stats.faults.get(&Fault::AddressMoved).is_some_and(|moved| *moved > count / 4),
        "{:?}",
        stats.faults
    );
    // Nearly all histories keep a quorum's data and addresses; only in the others two locks may be valid.
    let overlaps = stats.exempted.iter().filter(|((it, _), _)| *it == Invariant::MutualExclusion);
    assert!(overlaps.map(|(_, times)| times).sum::<u64>() < count / 10, "{:?}", stats.exempted);
}
