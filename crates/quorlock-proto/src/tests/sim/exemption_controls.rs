//! What is beyond the promise breaks it, and nothing else does: each excuse is seen at work, and where it is not given
//! nothing is broken.

use super::plan::{Fault, Profile};
use super::runner;
use super::stats::{Cause, Invariant, Stats};
use crate::lease_params::Drift;
use crate::tests::world::ms;

/// Some claims want a number that no clock reaches for long.
const FLOORS: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[Fault::ConnectionReset, Fault::Partition, Fault::Restart],
    all_faults: true,
    far_min_numbers: 1000,
    clock_offsets: 0,
    // So that clocks are off by little, and fence_loss_since numbers are overtaken_by in time.
    adjust: Some(|plan| {
        plan.max_ttl = ms(2_000);
        plan.max_drift_ppm = 10_000;
        plan.drift = Drift::new(0.01).expect("a usual drift");
    }),
    ..Profile::GENERAL
};
/// Nodes come up with their clock behind, and clients that have never met them.
pub(super) const BEHIND: Profile = Profile {
    faults: &[Fault::RestartClockBehind, Fault::ClientCrash],
    far_min_numbers: 0,
    wrong_wall_clocks: 0,
    // So that wall clocks stay right.
    adjust: Some(|plan| {
        plan.max_ttl = ms(2_000);
        plan.max_drift_ppm = 1_000;
        plan.drift = Drift::new(0.001).expect("a drift that makes sense");
    }),
    ..FLOORS
};

#[test]
fn numbers_fall_after_a_floor_far_ahead_only_where_nodes_forgot() {
    let command =
        |profile: &Profile| causes(profile, 500, &[Invariant::RealTimeOrder, Invariant::GrantOrder]);
    assert_eq!(command(&FLOORS), []);
    assert_eq!(
        command(&Profile { faults: &[Fault::Flush, Fault::RestartDataLoss], ..FLOORS }),
        [Cause::MinFencingNumberLost]
    );
}

#[test]
fn only_who_never_met_a_node_is_misled_by_its_clock_at_start_and_only_if_theirs_is_wrong_too() {
    let exclusion = |profile: &Profile| causes(profile, 2_000, &[Invariant::MutualExclusion]);
    assert_eq!(exclusion(&BEHIND), []);
    assert_eq!(exclusion(&Profile { wrong_wall_clocks: 500, ..BEHIND }), [Cause::ClockBehindAtStart]);
    assert_eq!(
        exclusion(&Profile { wrong_wall_clocks: 500, faults: &[Fault::RestartClockBehind], ..BEHIND }),
        []
    );
}

/// What broke these promises in so many histories. Without a cause none was broken.
#[track_caller]
fn causes(profile: &Profile, count: u64, of: &[Invariant]) -> Vec<Cause> {
    let (stats, finding) = runner::run_all(0, count, profile);
    if let Some(finding) = finding {
        panic!("{}\n{:?}", runner::replay_log(finding.seed, profile), finding.violation);
    }
    let Stats { exempted, .. } = stats;
    println!("{exempted:?}");
    let of_these = exempted.into_keys().filter(|(invariant, _)| of.contains(invariant));
    let mut causes: Vec<Cause> = of_these.map(|(_, cause)| cause).collect();
    causes.sort_unstable();
    causes.dedup();
    causes
}
