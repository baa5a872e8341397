//! Invariants in histories whose profile makes them frequent.

use super::plan::{Fault, Profile};
use super::runner;

/// Short faults and long leases: keys have the time to spread to all nodes.
pub(super) const REDUNDANCY: Profile = Profile {
    nodes: &[3, 5],
    clients: (2, 4),
    beyond_limits: 0,
    faults: &[Fault::ConnectionReset, Fault::Partition, Fault::NodePause, Fault::Restart],
    slow_messages: 0,
    clock_offsets: 500,
    checks_redundancy: true,
    other_lists: 0,
    reconfigurations: 0,
    adjust: Some(|plan| {
        plan.fault_interval = plan.max_ttl.as_nanos() as u64 / 2;
        plan.max_work_percent = 1_000;
        plan.faults_on_send = 0;
        plan.latency = plan.latency.min(1_000_000);
    }),
    ..Profile::GENERAL
};
/// Most tasks wait in queues.
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
/// Short leases, and most tasks wait in queues; many of them give up. A notified task attempts the lock
/// before its next recheck.
const HANDOFF: Profile = Profile {
    clients: (3, 4),
    faults: &[],
    clock_offsets: 0,
    far_min_numbers: 0,
    checks_redundancy: false,
    max_handoff_millis: Some(400),
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
/// [`HANDOVER`] with keys without an owner on nodes with wait queues. A cohort that lets other processes go
/// first gets no notification, and attempts the lock by itself.
pub(super) const ORPHAN_KEYS: Profile = Profile {
    adjust: Some(|plan| {
        (HANDOFF.adjust.expect("HANDOFF has an adjustment"))(plan);
        plan.has_orphan_keys = true;
    }),
    max_handoff_millis: Some(850),
    ..HANDOFF
};
/// Nodes evict keys, and an operator resets the statistics that show it.
pub(super) const STATISTICS: Profile = Profile {
    plain: 0,
    mixed: 0,
    beyond_limits: 0,
    faults: &[Fault::Eviction, Fault::StatisticsReset],
    other_lists: 0,
    ..Profile::GENERAL
};

#[test]
fn a_renewed_lock_has_its_key_on_every_node_without_faults_for_two_ttls() {
    assert_no_violation(&REDUNDANCY);
    assert_no_violation(&Profile { plain: 1000, mixed: 0, ..REDUNDANCY });
}

#[test]
fn a_waiter_does_not_poll_while_the_lock_is_held() {
    assert_no_violation(&WAITERS);
    assert_no_violation(&Profile { plain: 1000, mixed: 0, ..WAITERS });
}

#[test]
fn a_waiter_acquires_a_released_lock_within_400_ms() {
    assert_no_violation(&HANDOFF);
    assert_no_violation(&Profile { plain: 1000, mixed: 0, ..HANDOFF });
}

#[test]
fn a_waiter_acquires_a_released_lock_within_850_ms_despite_orphan_keys() {
    assert_no_violation(&ORPHAN_KEYS);
    assert_no_violation(&Profile { plain: 1000, mixed: 0, ..ORPHAN_KEYS });
}

#[test]
fn resetting_statistics_does_not_hide_an_eviction() {
    assert_no_violation(&STATISTICS);
}

#[track_caller]
fn assert_no_violation(profile: &Profile) {
    let (_, finding) = runner::run_all(0, HISTORIES, profile);
    if let Some(finding) = finding {
        panic!("{}\n{:?}", runner::replay_log(finding.seed, profile), finding.violation);
    }
}

const HISTORIES: u64 = 1_000;
