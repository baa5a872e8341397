//! Negative controls of the rosters: see [`mutants`](super::mutants).
//!
//! `RoundOfTwoRosters` is detected by a scenario and by the model of the rosters: it needs two votes of one
//! round between which a roster is chosen and written to one node and not to another, and a lock under the new
//! roster meanwhile.

use super::moved_addresses::MOVED_ADDRESSES;
use super::mutants::assert_detected;
use super::plan::{Fault, Profile};
use super::reconfiguration_runs::KEPT_DATA;
use crate::lease_params::Drift;
use crate::mutant::Mutant;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

/// Few addresses move, so that a quorum keeps data and address.
const ONE_MOVE: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    faults: &[Fault::AddressMoved, Fault::Partition, Fault::ConnectionReset],
    all_faults: true,
    other_lists: 0,
    slow_messages: 150,
    ..MOVED_ADDRESSES
};
const RESTARTS: Profile = Profile { faults: &[Fault::Restart, Fault::Partition], ..ONE_MOVE };
/// Clients begin ballots at once and lose contact in the middle.
const BALLOTS: Profile = Profile {
    faults: &[Fault::Restart, Fault::Partition, Fault::ClientCrash, Fault::ClientPause],
    faults_on_send: 200,
    ..ONE_MOVE
};

/// A blank server waits for its seat, and holders renew for nearly the max TTL. A client that starts later has
/// not seen the seat change, so it relies on the node.
const LATE_CHOICES: Profile = Profile {
    faults: &[
        Fault::RestartDataLoss,
        Fault::AddressMoved,
        Fault::Partition,
        Fault::Partition,
        Fault::Partition,
        Fault::Partition,
        Fault::ClientCrash,
        Fault::ClientCrash,
    ],
    slow_messages: 0,
    adjust: Some(|plan| {
        (MOVED_ADDRESSES.adjust.expect("an adjustment"))(plan);
        plan.has_misconfigured_client = false;
        plan.max_ttl = ms(600);
        plan.min_ttl = ms(590);
        plan.max_drift_ppm = 1_000;
        plan.drift = Drift::new(0.001).expect("a valid drift");
        plan.latency = 10_000_000;
        plan.max_work_percent = 300;
        plan.key_count = 1;
        plan.fault_interval = 80_000_000;
    }),
    ..ONE_MOVE
};

/// Holders renew for long and follow the rosters late, while nodes are removed one after the other.
const STEPS: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    clients: (3, 4),
    faults: &[Fault::Partition, Fault::ClientPause],
    all_faults: true,
    waiters: 0,
    far_min_numbers: 0,
    adjust: Some(|plan| {
        plan.max_drift_ppm = 10_000;
        plan.drift = Drift::new(0.01).expect("a valid drift");
        plan.max_work_percent = 400;
    }),
    ..KEPT_DATA
};

const STEPS_AT_ONCE: Profile = Profile { mutant: Some(Mutant::StepsAtOnce), ..STEPS };
const SHORTENS_PROBATION_AT_ONCE: Profile =
    Profile { mutant: Some(Mutant::ShortensProbationAtOnce), ..STEPS };
const ANY_LIST_ADOPTS: Profile =
    Profile { mutant: Some(Mutant::AnyListAdopts), other_lists: 1000, ..ONE_MOVE };
const IN_FORCE_BY_COUNT: Profile = Profile { mutant: Some(Mutant::InForceByCount), ..BALLOTS };
/// Clients on either side of a moved address see other majorities. Some crash while they write the next roster.
const NO_PROMISE: Profile = Profile {
    mutant: Some(Mutant::NoPromise),
    nodes: &[5],
    faults: &[Fault::AddressMoved, Fault::Partition, Fault::ClientCrash, Fault::ClientPause],
    ..BALLOTS
};
const PROBATION_BEFORE_CHOICE: Profile =
    Profile { mutant: Some(Mutant::ProbationBeforeChoice), ..LATE_CHOICES };
const PROMISE_DOES_NOT_SEAL: Profile = Profile { mutant: Some(Mutant::PromiseDoesNotSeal), ..ONE_MOVE };
const SEAT_SURVIVES_RESTART: Profile = Profile { mutant: Some(Mutant::SeatSurvivesRestart), ..RESTARTS };
const LOST_SEAT_VOTES: Profile = Profile { mutant: Some(Mutant::LostSeatVotes), ..ONE_MOVE };
const NO_FENCE_BASE: Profile = Profile { mutant: Some(Mutant::NoFenceBase), ..ONE_MOVE };
const MARKER_NOT_COMPARED: Profile =
    Profile { script_mistake: Some(ScriptMutant::MarkerNotCompared), ..ONE_MOVE };

#[test]
fn mutant_sim_steps_at_once() {
    assert_detected(&STEPS_AT_ONCE);
}

#[test]
fn mutant_sim_shortens_probation_at_once() {
    assert_detected(&SHORTENS_PROBATION_AT_ONCE);
}

#[test]
fn mutant_sim_any_list_adopts() {
    assert_detected(&ANY_LIST_ADOPTS);
}

#[test]
fn mutant_sim_in_force_by_count() {
    assert_detected(&IN_FORCE_BY_COUNT);
}

#[test]
fn mutant_sim_no_promise() {
    assert_detected(&NO_PROMISE);
}

#[test]
fn mutant_sim_probation_before_choice() {
    assert_detected(&PROBATION_BEFORE_CHOICE);
}

#[test]
fn mutant_sim_promise_does_not_seal() {
    assert_detected(&PROMISE_DOES_NOT_SEAL);
}

#[test]
fn mutant_sim_seat_survives_restart() {
    assert_detected(&SEAT_SURVIVES_RESTART);
}

#[test]
fn mutant_sim_lost_seat_votes() {
    assert_detected(&LOST_SEAT_VOTES);
}

#[test]
fn mutant_sim_no_fence_base() {
    assert_detected(&NO_FENCE_BASE);
}

#[test]
fn mutant_sim_marker_not_compared() {
    assert_detected(&MARKER_NOT_COMPARED);
}
