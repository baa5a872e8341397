//! Histories in which clients reconfigure the lock cluster, and others lock meanwhile.

use super::moved_addresses::check;
use super::plan::{Fault, Profile};
use super::situations::Situation;
use super::stats::{Invariant, Stats};

/// All faults within the guarantees.
const RECONFIGURATIONS: Profile = Profile { plain: 0, mixed: 0, reconfigurations: 1_000, ..Profile::GENERAL };
/// Members keep their data, so that rosters follow each other by changes only.
pub(super) const KEPT_DATA: Profile = Profile {
    faults: &[
        Fault::AddressMoved,
        Fault::ConnectionReset,
        Fault::Partition,
        Fault::ClientPause,
        Fault::ClientCrash,
        Fault::NodePause,
        Fault::Restart,
    ],
    beyond_limits: 0,
    clock_offsets: 0,
    adjust: Some(|plan| plan.fault_interval = plan.fault_interval.max(plan.max_ttl_nanos() / 4)),
    ..RECONFIGURATIONS
};

#[test]
fn reconfigurations_keep_every_invariant() {
    let stats = check(&RECONFIGURATIONS, 300);
    assert_met_all(&stats);
    stats.assert_met(&[Situation::RecoveredWithoutData, Situation::DataOfAnotherServer]);
}

#[test]
fn reconfigurations_of_servers_that_keep_their_data_keep_every_invariant() {
    let stats = check(&KEPT_DATA, 300);
    assert_met_all(&stats);
    // Two locks are valid in none of the histories.
    assert!(!stats.exempted.keys().any(|(it, _)| *it == Invariant::MutualExclusion), "{:?}", stats.exempted);
}

#[track_caller]
fn assert_met_all(stats: &Stats) {
    stats.assert_met(&[
        Situation::NodeExchanged,
        Situation::NodeAdded,
        Situation::NodeRemoved,
        Situation::QuorumChanged,
        Situation::MaxTtlChanged,
        Situation::ProbationShortened,
        Situation::ReconfigurationDone,
        Situation::InterruptedInBallot,
        Situation::InterruptedBetweenSteps,
        Situation::LockedWithOtherList,
        Situation::GrantWithoutAddress,
    ]);
}
