//! Negative controls: each known mistake, made alone, must be detected by the same histories and checkers.
//!
//! Each profile makes the situations frequent that its mistake needs, and has no violation without the
//! mistake.

use super::exemption_controls::CLOCK_BEHIND;
use super::focused_profiles::{ORPHAN_KEYS, REDUNDANCY, STATISTICS};
use super::plan::{ClientMistake, Fault, Profile};
use super::runner;
use crate::lease_params::Drift;
use crate::mutant::Mutant;
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

/// No faults except slow messages.
const SLOW_MESSAGES: Profile = Profile {
    nodes: &[3],
    super_majority: 0,
    clients: (2, 3),
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[],
    faults_beyond_limits: &[],
    all_faults: true,
    slow_messages: 60,
    clock_offsets: 0,
    waiters: 0,
    far_min_numbers: 0,
    other_lists: 0,
    reconfigurations: 0,
    ..Profile::GENERAL
};
const PLAIN_SLOW_MESSAGES: Profile = Profile { plain: 1000, ..SLOW_MESSAGES };

const OWNER_TOKEN_REUSED: Profile = Profile {
    faults: &[Fault::ConnectionReset],
    client_mistake: Some(ClientMistake::OwnerTokenReused),
    slow_messages: 150,
    ..SLOW_MESSAGES
};
const VALIDITY_FROM_REPLY: Profile = Profile {
    mutant: Some(Mutant::ValidityFromReply),
    adjust: Some(|plan| {
        plan.latency = 10_000_000;
        plan.max_ttl = ms(600);
        plan.min_ttl = ms(400);
        plan.max_work_percent = 400;
        plan.max_drift_ppm = 10_000;
        plan.drift = Drift::new(0.01).expect("a valid drift");
    }),
    ..PLAIN_SLOW_MESSAGES
};
const RENEWAL_SHORTENS: Profile =
    Profile { script_mistake: Some(ScriptMutant::RenewalShortens), ..SLOW_MESSAGES };
/// A holder is paused past its deadline; its request has yet to reach one node, its renewal another. Another
/// client can acquire the lock in between, and all the other nodes confirm the renewal.
const LATE_RENEWAL: Profile = Profile {
    faults: &[Fault::ClientPause, Fault::Partition],
    mutant: Some(Mutant::LateRenewal),
    faults_on_send: 100,
    slow_messages: 0,
    adjust: Some(|plan| {
        plan.max_ttl = ms(600);
        plan.min_ttl = ms(150);
        plan.limits.redial_after = ms(2_000);
        plan.max_work_percent = 30;
    }),
    ..PLAIN_SLOW_MESSAGES
};
const RESURRECTING_RENEWAL: Profile = Profile {
    faults: &[Fault::ClientPause, Fault::Partition],
    mutant: Some(Mutant::ResurrectingRenewal),
    ..PLAIN_SLOW_MESSAGES
};
const NO_PROBATION: Profile = Profile {
    faults: &[Fault::Flush, Fault::RestartDataLoss],
    mutant: Some(Mutant::NoProbation),
    ..SLOW_MESSAGES
};
const SHORT_PROBATION: Profile = Profile {
    faults: &[Fault::Flush, Fault::RestartDataLoss],
    mutant: Some(Mutant::ShortProbation),
    ..SLOW_MESSAGES
};
/// A key is deleted while its fence is being raised, and another client acquires it.
const RAISE_IGNORES_OWNER: Profile = Profile {
    faults: &[],
    beyond_limits: 1000,
    faults_beyond_limits: &[Fault::KeyDeleted],
    script_mistake: Some(ScriptMutant::RaiseIgnoresOwner),
    slow_messages: 100,
    faults_on_send: 300,
    wrong_wall_clocks: 500,
    clients: (3, 4),
    adjust: Some(|plan| {
        plan.latency = 5_000_000;
        plan.max_work_percent = 30;
        plan.key_count = 1;
    }),
    ..SLOW_MESSAGES
};
const RAISE_IGNORES_OWNER_AND_FENCE: Profile =
    Profile { script_mistake: Some(ScriptMutant::RaiseIgnoresOwnerAndFence), ..RAISE_IGNORES_OWNER };
/// No node accepts the hinted number. Each counts on from its own fence, so the numbers differ.
const NO_SECOND_ROUND: Profile = Profile {
    faults: &[Fault::Partition],
    mutant: Some(Mutant::NoSecondRound),
    wrong_wall_clocks: 900,
    ..SLOW_MESSAGES
};
const MISSING_FENCE_IS_ZERO: Profile = Profile {
    faults: &[Fault::Flush, Fault::RestartDataLoss],
    script_mistake: Some(ScriptMutant::MissingFenceIsZero),
    ..SLOW_MESSAGES
};
const QUORUM_OF_CONNECTED: Profile = Profile {
    faults: &[Fault::ConnectionReset, Fault::Partition],
    mutant: Some(Mutant::QuorumOfConnected),
    ..SLOW_MESSAGES
};
const CLOCKS_STOP_IN_SUSPEND: Profile = Profile {
    faults: &[Fault::ClientSuspend],
    client_mistake: Some(ClientMistake::ClocksStopInSuspend),
    ..SLOW_MESSAGES
};
const REPLY_OF_OLD_CONNECTION: Profile = Profile {
    faults: &[Fault::ConnectionReset],
    client_mistake: Some(ClientMistake::ReplyOfOldConnection),
    ..PLAIN_SLOW_MESSAGES
};
const RELEASE_IGNORES_OWNER: Profile =
    Profile { script_mistake: Some(ScriptMutant::ReleaseIgnoresOwner), ..PLAIN_SLOW_MESSAGES };
const IGNORES_ROLE_CHANGE: Profile = Profile {
    faults: &[Fault::RoleChange, Fault::DemotedToReplica],
    mutant: Some(Mutant::IgnoresRoleChange),
    ..SLOW_MESSAGES
};
const ERROR_COUNTS_AS_GRANT: Profile = Profile {
    faults: &[Fault::ErrorReplies],
    client_mistake: Some(ClientMistake::ErrorCountsAsGrant),
    ..SLOW_MESSAGES
};
/// A node was unreachable and its key is set again. The next renewal requests a longer TTL before the reply
/// arrives.
const REACQUIRED_GRANT_NEVER_EXPIRES: Profile = Profile {
    faults: &[Fault::ConnectionReset, Fault::Partition, Fault::Flush],
    mutant: Some(Mutant::ReacquiredGrantNeverExpires),
    ..PLAIN_SLOW_MESSAGES
};
/// [`REACQUIRED_GRANT_NEVER_EXPIRES`], with the grant counted in a later round.
const REACQUIRED_IN_ANY_ROUND: Profile = Profile {
    mutant: Some(Mutant::ReacquiredInAnyRound),
    slow_messages: 150,
    ..REACQUIRED_GRANT_NEVER_EXPIRES
};
/// A grant is in flight for a long time, and the lock is extended meanwhile.
const LATE_GRANT_NEVER_EXPIRES: Profile = Profile {
    faults: &[Fault::NodePause],
    mutant: Some(Mutant::LateGrantNeverExpires),
    ..PLAIN_SLOW_MESSAGES
};
/// A client writes the marker of a node that lost data and whose clock is behind. The clock is corrected
/// before another client reconnects.
const NO_OWN_CLOCK_WAIT: Profile = Profile {
    faults: &[Fault::RestartClockBehind, Fault::ConnectionReset, Fault::Partition],
    mutant: Some(Mutant::NoOwnClockWait),
    ..SLOW_MESSAGES
};
const SWAPS_UNREPORTED: Profile = Profile {
    faults: &[Fault::DatabaseSwap],
    script_mistake: Some(ScriptMutant::SwapsUnreported),
    ..SLOW_MESSAGES
};
const EVICTIONS_UNREPORTED: Profile = Profile {
    faults: &[Fault::Eviction],
    script_mistake: Some(ScriptMutant::EvictionsUnreported),
    ..SLOW_MESSAGES
};
const FENCED_OUT_FOREVER: Profile = Profile { mutant: Some(Mutant::FencedOutForever), ..REDUNDANCY };
/// Keys are deleted, so that another client acquires a held lock, and a grant of the holder is late.
const LARGER_FENCE_UNVERIFIED: Profile = Profile {
    faults: &[Fault::Partition, Fault::ConnectionReset],
    beyond_limits: 1000,
    faults_beyond_limits: &[Fault::KeyDeleted],
    mutant: Some(Mutant::LargerFenceUnproved),
    slow_messages: 150,
    faults_on_send: 100,
    ..SLOW_MESSAGES
};
const NO_WRITER_CLOCK: Profile = Profile { mutant: Some(Mutant::NoWriterClock), ..CLOCK_BEHIND };
/// The statistics are reset while a node evicts, so that only its policy shows the eviction.
const EVICTION_POLICY_UNREPORTED: Profile = Profile {
    script_mistake: Some(ScriptMutant::EvictionPolicyUnreported),
    nodes: &[3],
    super_majority: 0,
    clients: (2, 3),
    faults: &[Fault::Eviction, Fault::StatisticsReset, Fault::StatisticsReset],
    all_faults: true,
    slow_messages: 0,
    clock_offsets: 0,
    waiters: 0,
    far_min_numbers: 0,
    adjust: Some(|plan| {
        plan.fault_interval = plan.max_ttl_nanos() / 8;
        plan.faults_nanos *= 2;
        plan.faults_on_send = 0;
        plan.key_count = 1;
    }),
    ..STATISTICS
};

const WAIT_QUEUE_TRUSTED_FOREVER: Profile =
    Profile { mutant: Some(Mutant::WaitQueueTrustedForever), ..ORPHAN_KEYS };
const NOTIFIES_FOR_OWN_KEY_ONLY: Profile = Profile {
    script_mistake: Some(ScriptMutant::NotifiesForOwnKeyOnly),
    nodes: &[5],
    clients: (3, 3),
    plain: 0,
    mixed: 0,
    adjust: Some(|plan| {
        (ORPHAN_KEYS.adjust.expect("ORPHAN_KEYS has an adjustment"))(plan);
        plan.latency = 1_000_000;
        plan.key_count = 1;
    }),
    ..ORPHAN_KEYS
};

#[test]
fn mutant_sim_owner_token_reused() {
    assert_detected(&OWNER_TOKEN_REUSED);
}

#[test]
fn mutant_sim_validity_from_reply() {
    assert_detected(&VALIDITY_FROM_REPLY);
}

#[test]
fn mutant_sim_renewal_shortens() {
    assert_detected(&RENEWAL_SHORTENS);
}

#[test]
fn mutant_sim_late_renewal() {
    assert_detected(&LATE_RENEWAL);
}

#[test]
fn mutant_sim_resurrecting_renewal() {
    assert_detected(&RESURRECTING_RENEWAL);
}

#[test]
fn mutant_sim_no_probation() {
    assert_detected(&NO_PROBATION);
}

#[test]
fn mutant_sim_short_probation() {
    assert_detected(&SHORT_PROBATION);
}

#[test]
fn mutant_sim_raise_ignores_owner() {
    assert_detected(&RAISE_IGNORES_OWNER);
}

#[test]
fn mutant_sim_raise_ignores_owner_and_fence() {
    assert_detected(&RAISE_IGNORES_OWNER_AND_FENCE);
}

#[test]
fn mutant_sim_no_second_round() {
    assert_detected(&NO_SECOND_ROUND);
}

#[test]
fn mutant_sim_missing_fence_is_zero() {
    assert_detected(&MISSING_FENCE_IS_ZERO);
}

#[test]
fn mutant_sim_quorum_of_connected() {
    assert_detected(&QUORUM_OF_CONNECTED);
}

#[test]
fn mutant_sim_clocks_stop_in_suspend() {
    assert_detected(&CLOCKS_STOP_IN_SUSPEND);
}

#[test]
fn mutant_sim_reply_of_old_connection() {
    assert_detected(&REPLY_OF_OLD_CONNECTION);
}

#[test]
fn mutant_sim_release_ignores_owner() {
    assert_detected(&RELEASE_IGNORES_OWNER);
}

#[test]
fn mutant_sim_ignores_role_change() {
    assert_detected(&IGNORES_ROLE_CHANGE);
}

#[test]
fn mutant_sim_error_counts_as_grant() {
    assert_detected(&ERROR_COUNTS_AS_GRANT);
}

#[test]
fn mutant_sim_reacquired_grant_never_expires() {
    assert_detected(&REACQUIRED_GRANT_NEVER_EXPIRES);
}

#[test]
fn mutant_sim_reacquired_in_any_round() {
    assert_detected(&REACQUIRED_IN_ANY_ROUND);
}

#[test]
fn mutant_sim_late_grant_never_expires() {
    assert_detected(&LATE_GRANT_NEVER_EXPIRES);
}

#[test]
fn mutant_sim_no_own_clock_wait() {
    assert_detected(&NO_OWN_CLOCK_WAIT);
}

#[test]
fn mutant_sim_swaps_unreported() {
    assert_detected(&SWAPS_UNREPORTED);
}

#[test]
fn mutant_sim_evictions_unreported() {
    assert_detected(&EVICTIONS_UNREPORTED);
}

#[test]
fn mutant_sim_fenced_out_forever() {
    assert_detected(&FENCED_OUT_FOREVER);
}

#[test]
fn mutant_sim_larger_fence_unverified() {
    assert_detected(&LARGER_FENCE_UNVERIFIED);
}

#[test]
fn mutant_sim_no_writer_clock() {
    assert_detected(&NO_WRITER_CLOCK);
}

#[test]
fn mutant_sim_eviction_policy_unreported() {
    assert_detected(&EVICTION_POLICY_UNREPORTED);
}

#[test]
fn mutant_sim_wait_queue_trusted_forever() {
    assert_detected(&WAIT_QUEUE_TRUSTED_FOREVER);
}

#[test]
fn mutant_sim_notifies_for_own_key_only() {
    assert_detected(&NOTIFIES_FOR_OWN_KEY_ONLY);
}

#[track_caller]
pub(super) fn assert_detected(profile: &Profile) {
    let (_, finding) = runner::run_all(0, MAX_HISTORIES, profile);
    let finding = finding.expect("a violation because of the mistake");
    let (after, violation) = (finding.seed + 1, finding.violation);
    println!("detected after {after} histories: {:?}: {}", violation.invariant, violation.message);
    // Without the mistake, as many histories of the same profile have no violation.
    let control = Profile { mutant: None, script_mistake: None, client_mistake: None, ..profile.clone() };
    let (_, finding) = runner::run_all(0, after.max(MIN_CONTROL_HISTORIES), &control);
    assert!(finding.is_none(), "without the mistake: {finding:?}");
}

/// At least three times as many as the mutant that is detected last needs.
const MAX_HISTORIES: u64 = 3_000;
const MIN_CONTROL_HISTORIES: u64 = 100;
