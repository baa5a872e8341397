//! Addresses that move to other servers, and clients whose list or settings differ.

use super::plan::{Fault, Profile};
use super::runner;
use super::situations::Situation;
use super::stats::{Cause, Invariant, Stats};
use crate::tests::world::ms;

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

/// A node is absent from the start. Its seat becomes vacant, or the lock cluster is founded without it.
const ABSENT_NODE: Profile = Profile {
    nodes: &[3, 3, 5],
    absences: 1_000,
    other_lists: 100,
    faults: &[
        Fault::AddressMoved,
        Fault::ConnectionReset,
        Fault::Partition,
        Fault::ClientPause,
        Fault::ClientCrash,
        Fault::Restart,
        Fault::RestartDataLoss,
        Fault::ClockSetBack,
    ],
    adjust: Some(|plan| {
        plan.max_ttl = ms(30_000);
        plan.min_ttl = ms(5_000);
        plan.has_misconfigured_client = false;
        plan.is_initialized = plan.client_count == 3;
        plan.fault_interval = plan.max_ttl_nanos();
        plan.faults_nanos = 16 * plan.max_ttl_nanos();
        plan.faults_on_send = 0;
    }),
    ..MOVED_ADDRESSES
};
#[test]
fn absent_nodes_keep_every_invariant() {
    let stats = check(&ABSENT_NODE, 200);
    stats.assert_met(&[
        Situation::FoundedWithoutNode,
        Situation::SeatVacated,
        Situation::VacantSeatTaken,
        Situation::ChangedAfterClockStep,
        Situation::RecoveredWithoutData,
        Situation::SeatTaken,
        Situation::OtherListFollowed,
        Situation::GrantWithoutAddress,
    ]);
}

pub(super) fn check(profile: &Profile, count: u64) -> Stats {
    let first = super::from_env("QUORLOCK_FIRST").unwrap_or(0);
    let count = super::from_env("QUORLOCK_HISTORIES").unwrap_or(count);
    let (stats, finding) = runner::run_all(first, count, profile);
    if let Some(finding) = finding {
        let log = runner::replay_log(finding.seed, profile);
        panic!("{log}\n{}: {:?}", finding.seed, finding.violation);
    }
    println!("{stats}");
    stats
}

#[test]
fn moved_addresses_and_other_lists_keep_every_invariant() {
    let stats = check(&MOVED_ADDRESSES, 2_000);
    let count = stats.histories;
    assert!(
        stats.faults.get(&Fault::AddressMoved).is_some_and(|moved| *moved > count / 4),
        "{:?}",
        stats.faults
    );
    // A quorum keeps data and addresses, or no address moves: two locks are valid in none of the histories.
    // Numbers fall only where all servers had lost their data, and one's clock is behind.
    let is_allowed = |(invariant, cause): &(Invariant, Cause)| {
        *invariant == Invariant::Membership || *cause == Cause::DataLossAndClockError
    };
    assert!(stats.exempted.keys().all(is_allowed), "{:?}", stats.exempted);
}
