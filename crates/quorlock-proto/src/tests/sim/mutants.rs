//! Known mistakes, made one at a time: the same histories and the same checks must catch each of them.
//!
//! A checker that catches none proves nothing. Each profile draws more of what its mistake needs, and must pass without
//! the mistake.

use super::excuse_controls::BEHIND;
use super::plan::{Fault, Profile, Slip};
use super::runner;
use super::shapes::{REDUNDANCY, STALE_KEYS, STATISTICS};
use crate::lease_params::Drift;
use crate::mutant::Mutant;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

/// Nothing goes wrong but messages that are late.
const QUIET: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    clients: (2, 3),
    plain: 0,
    mixed: 0,
    beyond: 0,
    faults: &[],
    beyonds: &[],
    all: true,
    long_ways: 60,
    clock_offsets: 0,
    waiters: 0,
    far_floors: 0,
    ..Profile::GENERAL
};
const PLAIN: Profile = Profile { plain: 1000, ..QUIET };

const TOKEN_REUSED: Profile =
    Profile { faults: &[Fault::Cut], slip: Some(Slip::TokenReused), long_ways: 150, ..QUIET };
const VALIDITY_FROM_REPLY: Profile = Profile {
    mutant: Some(Mutant::ValidityFromReply),
    pin: Some(|plan| {
        plan.way = 10_000_000;
        plan.max_ttl = ms(600);
        plan.least_ttl = ms(400);
        plan.work = 400;
        plan.drift_millionths = 10_000;
        plan.drift = Drift::new(0.01).expect("a usual drift");
    }),
    ..PLAIN
};
const RENEWAL_SHORTENS: Profile = Profile { mistake: Some(ScriptMutant::RenewalShortens), ..QUIET };
/// A holder stands still over its deadline, its first question has yet to reach one node, its renewal another: so
/// another client can have the lock in between, and all the nodes that are left say that it is renewed.
const LATE_RENEWAL: Profile = Profile {
    faults: &[Fault::Pause, Fault::Partition],
    mutant: Some(Mutant::LateRenewal),
    ill_timed: 100,
    long_ways: 0,
    pin: Some(|plan| {
        plan.max_ttl = ms(600);
        plan.least_ttl = ms(150);
        plan.limits.redial_after = ms(2_000);
        plan.work = 30;
    }),
    ..PLAIN
};
const RESURRECTING: Profile =
    Profile { faults: &[Fault::Pause, Fault::Partition], mutant: Some(Mutant::ResurrectingRenewal), ..PLAIN };
const NO_PROBATION: Profile =
    Profile { faults: &[Fault::Flush, Fault::RestartEmpty], mutant: Some(Mutant::NoProbation), ..QUIET };
const SHORT_PROBATION: Profile =
    Profile { faults: &[Fault::Flush, Fault::RestartEmpty], mutant: Some(Mutant::ShortProbation), ..QUIET };
/// A key goes while its number is still being settled, and another client takes it.
const RAISE_WITHOUT_COMPARE: Profile = Profile {
    faults: &[],
    beyond: 1000,
    beyonds: &[Fault::KeyDeleted],
    mistake: Some(ScriptMutant::RaiseIgnoresOwner),
    long_ways: 100,
    ill_timed: 300,
    odd_walls: 500,
    clients: (3, 4),
    pin: Some(|plan| {
        plan.way = 5_000_000;
        plan.work = 30;
        plan.keys = 1;
    }),
    ..QUIET
};
const RAISE_UNCONDITIONAL: Profile =
    Profile { mistake: Some(ScriptMutant::RaiseIgnoresOwnerAndFence), ..RAISE_WITHOUT_COMPARE };
/// Hints that no node takes: each counts on from its own number, so that these differ.
const NO_SECOND_ROUND: Profile =
    Profile { faults: &[Fault::Partition], mutant: Some(Mutant::NoSecondRound), odd_walls: 900, ..QUIET };
const FENCE_FROM_ONE: Profile = Profile {
    faults: &[Fault::Flush, Fault::RestartEmpty],
    mistake: Some(ScriptMutant::MissingFenceIsZero),
    ..QUIET
};
const QUORUM_OF_CONNECTED: Profile =
    Profile { faults: &[Fault::Cut, Fault::Partition], mutant: Some(Mutant::QuorumOfConnected), ..QUIET };
const SUSPEND_BLIND: Profile = Profile { faults: &[Fault::Suspend], slip: Some(Slip::SuspendBlind), ..QUIET };
const DESYNC: Profile = Profile { faults: &[Fault::Cut], slip: Some(Slip::Desync), ..PLAIN };
const RELEASE_WITHOUT_COMPARE: Profile =
    Profile { mistake: Some(ScriptMutant::ReleaseIgnoresOwner), ..PLAIN };
const IGNORES_REPLICATION: Profile = Profile {
    faults: &[Fault::RoleChange, Fault::Replica],
    mutant: Some(Mutant::IgnoresRoleChange),
    ..QUIET
};
const ERROR_IS_VOTE: Profile = Profile { faults: &[Fault::Errors], slip: Some(Slip::ErrorIsVote), ..QUIET };
/// A node was away, its key is taken again, and the next renewal asks for longer before the answer is there.
const RETAKE_LASTS: Profile = Profile {
    faults: &[Fault::Cut, Fault::Partition, Fault::Flush],
    mutant: Some(Mutant::ReacquiredGrantNeverExpires),
    ..PLAIN
};
/// The same, as far as that is a matter of the round.
const RETAKE_OF_ANY_ROUND: Profile =
    Profile { mutant: Some(Mutant::ReacquiredInAnyRound), long_ways: 150, ..RETAKE_LASTS };
/// A grant is under way for long, and the lock is extended meanwhile.
const LATE_GRANT_LASTS: Profile =
    Profile { faults: &[Fault::Freeze], mutant: Some(Mutant::LateGrantNeverExpires), ..PLAIN };
/// Nodes that forgot are away, or blank, when another comes up blank.
const ABSENT_NODES_VOUCH: Profile = Profile {
    faults: &[Fault::RestartEmpty, Fault::Cut],
    mutant: Some(Mutant::DisconnectedNodesConfirm),
    ..QUIET
};
/// One client marks a node that forgot and whose clock is behind; it is set right before another client is back.
const NO_OWN_CLOCK_WAIT: Profile = Profile {
    faults: &[Fault::RestartBehind, Fault::Cut, Fault::Partition],
    mutant: Some(Mutant::NoOwnClockWait),
    ..QUIET
};
const SWAPS_UNCOUNTED: Profile =
    Profile { faults: &[Fault::Swap], mistake: Some(ScriptMutant::SwapsUnreported), ..QUIET };
const EVICTIONS_UNCOUNTED: Profile =
    Profile { faults: &[Fault::Evicts], mistake: Some(ScriptMutant::EvictionsUnreported), ..QUIET };
const OUTRANKED_FOR_GOOD: Profile = Profile { mutant: Some(Mutant::FencedOutForever), ..REDUNDANCY };
/// Keys are deleted, so that a lock passes on under its holder, and a grant of its own is late.
const LARGER_IS_NOBODYS: Profile = Profile {
    faults: &[Fault::Partition, Fault::Cut],
    beyond: 1000,
    beyonds: &[Fault::KeyDeleted],
    mutant: Some(Mutant::LargerFenceUnverified),
    long_ways: 150,
    ill_timed: 100,
    ..QUIET
};
const NO_WRITER_CLOCK: Profile = Profile { mutant: Some(Mutant::NoWriterClock), ..BEHIND };
const EVICTING_UNMARKED: Profile =
    Profile { mistake: Some(ScriptMutant::EvictionPolicyUnreported), all: true, ..STATISTICS };

const LINE_IS_FINAL: Profile = Profile { mutant: Some(Mutant::WaitQueueTrustedForever), ..STALE_KEYS };
const CALLS_FOR_OWN_KEY_ONLY: Profile =
    Profile { mistake: Some(ScriptMutant::NotifiesForOwnKeyOnly), ..STALE_KEYS };

#[test]
fn mutant_sim_token_reused() {
    is_caught(&TOKEN_REUSED);
}

#[test]
fn mutant_sim_validity_from_reply() {
    is_caught(&VALIDITY_FROM_REPLY);
}

#[test]
fn mutant_sim_renewal_shortens() {
    is_caught(&RENEWAL_SHORTENS);
}

#[test]
fn mutant_sim_late_renewal() {
    is_caught(&LATE_RENEWAL);
}

#[test]
fn mutant_sim_resurrecting_renewal() {
    is_caught(&RESURRECTING);
}

#[test]
fn mutant_sim_no_probation() {
    is_caught(&NO_PROBATION);
}

#[test]
fn mutant_sim_short_probation() {
    is_caught(&SHORT_PROBATION);
}

#[test]
fn mutant_sim_raise_without_compare() {
    is_caught(&RAISE_WITHOUT_COMPARE);
}

#[test]
fn mutant_sim_raise_unconditional() {
    is_caught(&RAISE_UNCONDITIONAL);
}

#[test]
fn mutant_sim_no_second_round() {
    is_caught(&NO_SECOND_ROUND);
}

#[test]
fn mutant_sim_fence_from_one() {
    is_caught(&FENCE_FROM_ONE);
}

#[test]
fn mutant_sim_quorum_of_connected() {
    is_caught(&QUORUM_OF_CONNECTED);
}

#[test]
fn mutant_sim_suspend_blind() {
    is_caught(&SUSPEND_BLIND);
}

#[test]
fn mutant_sim_desync() {
    is_caught(&DESYNC);
}

#[test]
fn mutant_sim_release_without_compare() {
    is_caught(&RELEASE_WITHOUT_COMPARE);
}

#[test]
fn mutant_sim_ignores_replication() {
    is_caught(&IGNORES_REPLICATION);
}

#[test]
fn mutant_sim_error_is_vote() {
    is_caught(&ERROR_IS_VOTE);
}

#[test]
fn mutant_sim_retake_lasts() {
    is_caught(&RETAKE_LASTS);
}

#[test]
fn mutant_sim_retake_of_any_round() {
    is_caught(&RETAKE_OF_ANY_ROUND);
}

#[test]
fn mutant_sim_late_grant_lasts() {
    is_caught(&LATE_GRANT_LASTS);
}

#[test]
fn mutant_sim_absent_nodes_vouch() {
    is_caught(&ABSENT_NODES_VOUCH);
}

#[test]
fn mutant_sim_no_own_clock_wait() {
    is_caught(&NO_OWN_CLOCK_WAIT);
}

#[test]
fn mutant_sim_swaps_uncounted() {
    is_caught(&SWAPS_UNCOUNTED);
}

#[test]
fn mutant_sim_evictions_uncounted() {
    is_caught(&EVICTIONS_UNCOUNTED);
}

#[test]
fn mutant_sim_outranked_for_good() {
    is_caught(&OUTRANKED_FOR_GOOD);
}

#[test]
fn mutant_sim_larger_is_nobodys() {
    is_caught(&LARGER_IS_NOBODYS);
}

#[test]
fn mutant_sim_no_writer_clock() {
    is_caught(&NO_WRITER_CLOCK);
}

#[test]
fn mutant_sim_evicting_unmarked() {
    is_caught(&EVICTING_UNMARKED);
}

#[test]
fn mutant_sim_line_is_final() {
    is_caught(&LINE_IS_FINAL);
}

#[test]
fn mutant_sim_calls_for_own_key_only() {
    is_caught(&CALLS_FOR_OWN_KEY_ONLY);
}

#[track_caller]
fn is_caught(profile: &Profile) {
    let (_, finding) = runner::run_all(0, MOST_HISTORIES, profile);
    let finding = finding.expect("the mistake is caught");
    let (after, violation) = (finding.seed + 1, finding.violation);
    println!("caught after {after} histories: {:?}: {}", violation.invariant, violation.words);
    // Without the mistake there is nothing to find in as many histories of the same kind.
    let honest = Profile { mutant: None, mistake: None, slip: None, ..profile.clone() };
    let (_, finding) = runner::run_all(0, after.max(LEAST_HONEST), &honest);
    assert!(finding.is_none(), "without the mistake: {finding:?}");
}

const MOST_HISTORIES: u64 = 5_000;
const LEAST_HONEST: u64 = 100;
