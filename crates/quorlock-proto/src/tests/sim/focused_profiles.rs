//! Promises in histories that are made for them, so that each is looked at often.

use super::plan::{Fault, Profile};
use super::runner;

/// What goes wrong is over soon, and locks are held for long.
pub(super) const REDUNDANCY: Profile = Profile {
    nodes: &[3, 5],
    clients: (2, 4),
    beyond_limits: 0,
    faults: &[Fault::ConnectionReset, Fault::Partition, Fault::NodeFreeze, Fault::Restart],
    slow_messages: 0,
    clock_offsets: 500,
    checks_redundancy: true,
    adjust: Some(|plan| {
        plan.fault_interval = plan.max_ttl.as_nanos() as u64 / 2;
        plan.max_work_percent = 1_000;
        plan.faults_on_send = 0;
        plan.latency = plan.latency.min(1_000_000);
    }),
    ..Profile::GENERAL
};
/// Most callers stand in line.
const WAITERS: Profile = Profile {
    checks_redundancy: false,
    checks_polling: true,
    adjust: Some(|plan| {
        plan.fault_interval = plan.max_ttl.as_nanos() as u64 / 2;
        plan.max_work_percent = 2_000;
        plan.faults_on_send = 0;
        plan.latency = plan.latency.min(1_000_000);
        plan.waiters = 800;
    }),
    ..REDUNDANCY
};
/// Locks are given up soon, and most callers stand in line, of whom many give up before they have one. Who is called tries
/// before it would look by itself.
const HANDED_ON: Profile = Profile {
    clients: (3, 4),
    faults: &[],
    clock_offsets: 0,
    far_min_numbers: 0,
    checks_redundancy: false,
    max_handover_millis: Some(400),
    adjust: Some(|plan| {
        plan.faults_nanos = 10_000_000_000;
        plan.max_work_percent = 10;
        plan.faults_on_send = 0;
        plan.latency = plan.latency.min(1_000_000);
        plan.waiters = 900;
        plan.has_misconfigured_client = false;
    }),
    ..REDUNDANCY
};
/// The same, and a key that is nobody's stands where they stand in line. Who has had the lock and lets others go first has no
/// word of a release to wait for, and tries by itself.
pub(super) const STALE_KEYS: Profile = Profile {
    adjust: Some(|plan| {
        (HANDED_ON.adjust.expect("there is one"))(plan);
        plan.has_orphan_keys = true;
    }),
    max_handover_millis: Some(850),
    ..HANDED_ON
};
/// What a node evicted stands in its statistics, which somebody resets.
pub(super) const STATISTICS: Profile = Profile {
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[Fault::Eviction, Fault::StatisticsReset],
    ..Profile::GENERAL
};

#[test]
fn a_lock_stands_on_every_node_that_had_no_trouble_for_two_ttls() {
    is_kept(&REDUNDANCY);
    is_kept(&Profile { plain: 1000, mixed: 0, ..REDUNDANCY });
}

#[test]
fn a_waiter_does_not_poll_while_the_lock_is_held() {
    is_kept(&WAITERS);
    is_kept(&Profile { plain: 1000, mixed: 0, ..WAITERS });
}

#[test]
fn who_waits_for_a_lock_has_it_soon_after_it_is_given_up() {
    is_kept(&HANDED_ON);
    is_kept(&Profile { plain: 1000, mixed: 0, ..HANDED_ON });
}

#[test]
fn who_waits_for_a_lock_has_it_soon_also_where_keys_stand_that_are_nobodys() {
    is_kept(&STALE_KEYS);
    is_kept(&Profile { plain: 1000, mixed: 0, ..STALE_KEYS });
}

#[test]
fn resetting_statistics_does_not_hide_an_eviction() {
    is_kept(&STATISTICS);
}

#[track_caller]
fn is_kept(profile: &Profile) {
    let (_, finding) = runner::run_all(0, HISTORIES, profile);
    if let Some(finding) = finding {
        panic!("{}\n{:?}", runner::replay_log(finding.seed, profile), finding.violation);
    }
}

const HISTORIES: u64 = 1_000;
