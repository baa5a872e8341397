//! Tests the redundancy checker with synthetic histories: a held lock's key that is missing on a healthy
//! node, and the faults that excuse it.

mod history_builder;

use history_builder::{HistoryBuilder, JUMP, WIPE, builder, check};
use quorlock_chaos::checker::{Invariant, Verdict};
use quorlock_chaos::history::{Effect, EventKind, NodeView};

const REDUNDANCY: [Invariant; 1] = [Invariant::Redundancy];
const OWNER: &str = "0badcafe";
const OTHER_OWNER: &str = "deadbeef";
/// The lock is held from 100 ms to this time. Two ttls and the slack are 3 s.
const END: u64 = 8_000;
const NUMBER: u64 = 10;

/// Client 1 holds the lock and renews it, and all nodes are sampled every 200 ms. `node_4` gives the owner
/// and the fence of node 4 at a time; the other nodes have the key.
fn held(node_4: impl Fn(u64) -> (Option<&'static str>, Option<u64>)) -> HistoryBuilder {
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(NUMBER));
    for at in (300..END).step_by(300) {
        builder.validated(1, 0, at, at + 900);
    }
    builder.release(1, 0, END);
    for at in (100..END + 1_000).step_by(200) {
        let owner = (at > 100 && at < END).then_some(OWNER);
        for node in 0..4 {
            builder.sample(node, at + node as u64, owner, Some(NUMBER));
        }
        let (owner, fence) = node_4(at);
        builder.sample(4, at + 4, owner, fence);
    }
    builder
}

/// The key is on node 4 from the grant to `from`, and then missing.
fn missing(from: u64) -> HistoryBuilder {
    held(move |at| ((at < from).then_some(OWNER), Some(NUMBER)))
}

fn excuse(verdict: &Verdict) -> &str {
    &verdict.expected[0].excuse
}

#[test]
fn a_lock_with_its_key_on_every_node_is_checked_and_passes() {
    let verdict = check(&held(|at| ((at < END).then_some(OWNER), Some(NUMBER))), &[], &[]);
    assert_eq!(verdict.totals.redundancy_checked, 1);
}

#[test]
fn a_key_that_is_missing_on_a_healthy_node_is_a_violation() {
    // The node had the key once, never, or had another owner's key.
    for builder in [missing(3_500), missing(0), held(|_| (Some(OTHER_OWNER), Some(NUMBER)))] {
        let verdict = check(&builder, &REDUNDANCY, &[]);
        assert_eq!(verdict.totals.redundancy_checked, 1);
        // It is reported once per lock and node.
        assert_eq!(verdict.violations.len(), 1);
        assert!(verdict.violations[0].message.contains("node 4, up and healthy"), "{verdict:?}");
        assert!(verdict.violations[0].message.contains("4 of 5 nodes had it"), "{verdict:?}");
    }
    let verdict = check(&missing(3_500), &REDUNDANCY, &[]);
    assert!(verdict.violations[0].message.contains("last seen there at 3.304 s"), "{verdict:?}");
    assert_eq!(verdict.violations[0].events.len(), 3);
}

#[test]
fn a_node_has_two_ttls_to_get_the_key() {
    // The key returns before the end of the first two ttls and the slack.
    check(&held(|at| ((at > 2_900 && at < END).then_some(OWNER), Some(NUMBER))), &[], &[]);
    check(&held(|at| ((at > 3_200 && at < END).then_some(OWNER), Some(NUMBER))), &REDUNDANCY, &[]);
}

#[test]
fn a_lock_that_is_held_for_less_than_two_ttls_is_not_checked() {
    let mut builder = builder();
    builder
        .acquire(1, 0, 100, Some(NUMBER))
        .validated(1, 0, 1_000, 1_900)
        .validated(1, 0, 1_800, 2_800)
        .release(1, 0, 2_700);
    for at in (100..5_000).step_by(200) {
        builder.sample(0, at, None, None);
    }
    assert_eq!(check(&builder, &[], &[]).totals.redundancy_checked, 0);

    // In a run that must check some lock, that is a violation.
    builder.settings.checks_redundancy = true;
    let verdict = check(&builder, &[Invariant::CompleteHistory], &[]);
    assert!(verdict.violations[0].message.contains("redundancy was not tested"), "{verdict:?}");
}

#[test]
fn a_history_without_samples_is_no_violation() {
    let mut builder = builder();
    builder.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 40_000, 40_100, Some(11));
    assert_eq!(check(&builder, &[], &[]).totals.redundancy_checked, 0);
}

#[test]
fn every_kind_of_fault_of_the_node_is_an_excuse_for_two_ttls() {
    let effects = [
        Effect::Down,
        Effect::Paused,
        Effect::Unreachable,
        Effect::RejectsWrites,
        Effect::Slow { ms: 100 },
        Effect::ClockRate { ppm: 100_000 },
        WIPE[0],
        JUMP[0],
    ];
    for effect in effects {
        let mut builder = missing(3_500);
        builder.fault(1, "fault", &[4], 3_400, 7_000, &[effect]);
        let verdict = check(&builder, &[], &[Invariant::Redundancy]);
        assert!(excuse(&verdict).contains("a fault hit the node"), "{effect:?}: {verdict:?}");
        assert_eq!(verdict.expected[0].count, 1, "counted once per lock and node");
    }
    // No excuse: a fault without effects, a fault of another node, and a later fault.
    for (node, from, effects) in
        [(4, 3_400, &[][..]), (3, 3_400, &[Effect::Paused]), (4, 7_900, &[Effect::Paused])]
    {
        let mut builder = missing(3_500);
        builder.fault(1, "fault", &[node], from, 7_950, effects);
        check(&builder, &REDUNDANCY, &[]);
    }
}

#[test]
fn a_pause_is_an_excuse_until_two_ttls_after_its_end() {
    let paused = |to: u64| {
        let mut builder = missing(2_000);
        builder.fault(1, "pause", &[4], 1_900, to, &[Effect::Paused]);
        builder
    };
    // Two ttls and the slack are 3 s, and the lock is sampled until 8 s.
    check(&paused(4_910), &[], &[Invariant::Redundancy]);
    check(&paused(4_600), &REDUNDANCY, &[]);
}

#[test]
fn a_restart_is_an_excuse_until_two_ttls_after_its_probation() {
    let restarted = |to: u64| {
        let mut builder = missing(1_000);
        builder.fault(1, "kill", &[4], 900, to, &[Effect::Down]);
        builder
    };
    let verdict = check(&restarted(2_910), &[], &[Invariant::Redundancy]);
    assert!(excuse(&verdict).contains("a fault hit the node"), "{verdict:?}");
    check(&restarted(2_600), &REDUNDANCY, &[]);
    // Without probation there is no such excuse.
    let mut plain = restarted(2_910);
    plain.settings.probation = false;
    check(&plain, &REDUNDANCY, &[]);
    // A fault that ended before the lock was requested is no excuse.
    let mut builder = missing(0);
    builder.fault(1, "flush", &[4], 10, 20, &WIPE);
    check(&builder, &REDUNDANCY, &[]);
    let mut builder = missing(0);
    builder.fault(1, "flush", &[4], 10, 20, &WIPE);
    // But the client reconnected to the node late, and its probation began then.
    let view = NodeView::OnProbation { until: history_builder::BOOT + 4_950 * history_builder::MS };
    builder.client_event(1, 0, 2_900, EventKind::NodeViewChanged { node: 4, view });
    let verdict = check(&builder, &[], &[Invariant::Redundancy]);
    assert!(excuse(&verdict).contains("probation"), "{verdict:?}");
}

#[test]
fn probation_without_a_fault_excuses_nothing() {
    let mut builder = missing(0);
    let view = NodeView::OnProbation { until: history_builder::BOOT + 7_900 * history_builder::MS };
    builder.client_event(1, 0, 150, EventKind::NodeViewChanged { node: 4, view });
    check(&builder, &REDUNDANCY, &[]);
}

#[test]
fn an_exclusion_after_a_fault_is_an_excuse_until_the_client_dials_the_node_again() {
    let excluded = |end: u64| {
        let mut builder = missing(0);
        builder.fault(1, "memory", &[4], 10, end, &[Effect::RejectsWrites]);
        builder.client_event(1, 0, 120, EventKind::NodeViewChanged { node: 4, view: NodeView::Excluded });
        builder
    };
    let verdict = check(&excluded(90), &[], &[Invariant::Redundancy]);
    assert!(excuse(&verdict).contains("yet to dial it again"), "{verdict:?}");
    // The client has dialed it again.
    let mut builder = excluded(90);
    builder.client_event(1, 0, 2_000, EventKind::NodeViewChanged { node: 4, view: NodeView::Up });
    check(&builder, &REDUNDANCY, &[]);
    // The client excluded the node without a fault.
    let mut builder = missing(0);
    builder.client_event(1, 0, 120, EventKind::NodeViewChanged { node: 4, view: NodeView::Excluded });
    check(&builder, &REDUNDANCY, &[]);
}

#[test]
fn a_long_gap_between_samples_is_an_excuse() {
    // Without samples the node's state is unknown, and every span of two ttls has such a gap.
    let unsampled = |millis: u64| {
        let mut builder = builder();
        builder.acquire(1, 0, 100, Some(NUMBER));
        for at in (300..END).step_by(300) {
            builder.validated(1, 0, at, at + 900);
        }
        builder.release(1, 0, END);
        let is_sampled = |at: &u64| ![2_000, 5_000].iter().any(|from| (*from..from + millis).contains(at));
        for at in (100..END).step_by(200).filter(is_sampled) {
            builder.sample(4, at, None, Some(NUMBER));
        }
        builder
    };
    let verdict = check(&unsampled(1_200), &[], &[Invariant::Redundancy]);
    assert!(excuse(&verdict).contains("not sampled for too long"), "{verdict:?}");
    // A gap below the slack of 1 s is no excuse.
    check(&unsampled(600), &REDUNDANCY, &[]);
}

#[test]
fn a_network_fault_is_an_excuse_only_for_clients_on_that_side() {
    let partitioned = |side: u32| {
        let mut builder = missing(3_500);
        builder.side = Some(side);
        builder.fault(1, "partition", &[4], 3_400, 7_000, &[Effect::Unreachable]);
        builder
    };
    // Client 1 uses side 1 of the network.
    check(&partitioned(1), &[], &[Invariant::Redundancy]);
    check(&partitioned(0), &REDUNDANCY, &[]);
}

#[test]
fn a_constant_clock_offset_excuses_nothing() {
    let mut builder = missing(3_500);
    builder.fault(1, "clock-offset", &[4], 50, END, &[Effect::ClockOffset { micros: -600_000 }]);
    check(&builder, &REDUNDANCY, &[]);
}

#[test]
fn a_stale_key_is_an_excuse_for_two_ttls() {
    let with_stale_key = |from: u64, to: u64| {
        let mut builder = missing(3_500);
        builder.fault(1, "stale-key", &[4], from, to, &[Effect::StaleKey]);
        builder
    };
    check(&with_stale_key(3_400, 7_000), &[], &[Invariant::Redundancy]);
    // Two ttls have passed since, so the key must be there.
    check(&with_stale_key(50, 300), &REDUNDANCY, &[]);
}

#[test]
fn a_stopped_client_is_an_excuse() {
    let mut builder = missing(3_500);
    builder.stop(1, 3_000, 3_600).stop(1, 5_500, 6_100);
    let verdict = check(&builder, &[], &[Invariant::Redundancy]);
    assert!(excuse(&verdict).contains("the client was paused"), "{verdict:?}");
    // A shorter stop is within the slack.
    let mut builder = missing(3_500);
    builder.stop(1, 3_000, 3_400);
    check(&builder, &REDUNDANCY, &[]);
}

#[test]
fn a_larger_fence_is_no_excuse() {
    // Another client's attempt raised the fence while the key was missing.
    check(&held(|_| (None, Some(NUMBER + 1))), &REDUNDANCY, &[]);
    // A late grant of the holder raised the fence, and the next renewal did not keep the key.
    check(&held(|at| ((at < 1_000).then_some(OWNER), Some(NUMBER + 1))), &REDUNDANCY, &[]);
    check(&held(|_| (None, Some(NUMBER))), &REDUNDANCY, &[]);
}

#[test]
fn a_node_without_any_key_is_a_violation_even_if_the_owner_is_unknown() {
    // The other nodes have different owners, which is no excuse.
    let mut builder = builder();
    builder.acquire(1, 0, 100, Some(NUMBER));
    for at in (300..END).step_by(300) {
        builder.validated(1, 0, at, at + 900);
    }
    builder.release(1, 0, END);
    for at in (100..END).step_by(200) {
        for (node, owner) in [(0, Some(OWNER)), (1, Some(OTHER_OWNER)), (2, None)] {
            builder.sample(node, at, owner, Some(NUMBER));
        }
    }
    let verdict = check(&builder, &REDUNDANCY, &[]);
    assert_eq!(verdict.violations.len(), 1, "{verdict:?}");
    assert!(verdict.violations[0].message.contains("node 2"), "{verdict:?}");
}

#[test]
fn of_two_locks_that_are_held_at_once_none_is_checked() {
    let mut builder = missing(3_500);
    builder.hold(2, 0, 4_000, 4_500, Some(NUMBER + 1));
    let verdict = check(&builder, &[Invariant::MutualExclusion], &REDUNDANCY);
    assert!(excuse(&verdict).contains("another client held the lock"), "{verdict:?}");
}
