//! Negative controls of the exemptions: each exempted cause breaks an invariant, and without the cause no
//! invariant breaks.

use super::plan::{Fault, Profile};
use super::runner;
use super::stats::{Cause, Invariant, Stats};
use crate::lease_params::Drift;
use crate::tests::world::ms;

/// Some attempts request a minimum fencing number that no clock reaches for a long time.
const FAR_MIN_NUMBERS: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[Fault::ConnectionReset, Fault::Partition, Fault::Restart],
    all_faults: true,
    far_min_numbers: 1000,
    clock_offsets: 0,
    other_lists: 0,
    // Clock errors stay small, and the clocks overtake lost numbers in time.
    adjust: Some(|plan| {
        plan.max_ttl = ms(2_000);
        plan.max_drift_ppm = 10_000;
        plan.drift = Drift::new(0.01).expect("a valid drift");
    }),
    ..Profile::GENERAL
};
/// Nodes restart with their clock behind, and new clients then meet them for the first time.
pub(super) const CLOCK_BEHIND: Profile = Profile {
    faults: &[Fault::RestartClockBehind, Fault::ClientCrash],
    far_min_numbers: 0,
    wrong_wall_clocks: 0,
    // The wall clocks stay right.
    adjust: Some(|plan| {
        plan.max_ttl = ms(2_000);
        plan.max_drift_ppm = 1_000;
        plan.drift = Drift::new(0.001).expect("a valid drift");
    }),
    ..FAR_MIN_NUMBERS
};
/// One address at a time moves to another server, and connections to the earlier server live on.
const MOVED_ADDRESS: Profile = Profile {
    faults: &[Fault::AddressMoved, Fault::ConnectionReset, Fault::Partition],
    far_min_numbers: 0,
    ..FAR_MIN_NUMBERS
};

#[test]
fn numbers_decrease_after_a_far_minimum_only_if_nodes_lose_data() {
    let order_causes =
        |profile: &Profile| causes(profile, 500, &[Invariant::RealTimeOrder, Invariant::GrantOrder]);
    assert_eq!(order_causes(&FAR_MIN_NUMBERS), []);
    assert_eq!(
        order_causes(&Profile { faults: &[Fault::Flush, Fault::RestartDataLoss], ..FAR_MIN_NUMBERS }),
        [Cause::MinFencingNumberLost]
    );
}

#[test]
fn a_clock_behind_at_start_misleads_only_new_clients_with_wrong_wall_clocks() {
    let exclusion_causes = |profile: &Profile, count| causes(profile, count, &[Invariant::MutualExclusion]);
    assert_eq!(exclusion_causes(&CLOCK_BEHIND, 2_000), []);
    let wrong_wall_clocks = Profile { wrong_wall_clocks: 500, ..CLOCK_BEHIND };
    // It takes thousands.
    assert_eq!(exclusion_causes(&wrong_wall_clocks, 6_000), [Cause::ClockBehindAtStart]);
    let restarts_only = Profile { faults: &[Fault::RestartClockBehind], ..wrong_wall_clocks };
    assert_eq!(exclusion_causes(&restarts_only, 2_000), []);
}

#[test]
fn a_moved_address_admits_two_holders_only_to_plain_clients() {
    let exclusion_causes = |profile: &Profile| causes(profile, 1_000, &[Invariant::MutualExclusion]);
    assert_eq!(exclusion_causes(&MOVED_ADDRESS), []);
    // To plain clients, a blank server at the address is also a node that lost its data.
    assert_eq!(
        exclusion_causes(&Profile { plain: 1000, ..MOVED_ADDRESS }),
        [Cause::DataLoss, Cause::AddressesMoved]
    );
}

/// The causes that broke these invariants in `count` histories; a violation without a cause panics.
#[track_caller]
fn causes(profile: &Profile, count: u64, invariants: &[Invariant]) -> Vec<Cause> {
    let (stats, finding) = runner::run_all(0, count, profile);
    if let Some(finding) = finding {
        panic!("{}\n{:?}", runner::replay_log(finding.seed, profile), finding.violation);
    }
    let Stats { exempted, .. } = stats;
    println!("{exempted:?}");
    let matching = exempted.into_keys().filter(|(invariant, _)| invariants.contains(invariant));
    let mut causes: Vec<Cause> = matching.map(|(_, cause)| cause).collect();
    causes.sort_unstable();
    causes.dedup();
    causes
}
