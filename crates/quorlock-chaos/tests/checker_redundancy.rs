//! The checker against forged histories with samples of the nodes: a live lock's key that is missing on a healthy node,
//! and what excuses that.

mod forge;

use forge::{JUMP, Story, WIPE, check, story};
use quorlock_chaos::checker::{Invariant, Verdict};
use quorlock_chaos::history::{Effect, EventKind, NodeView};

const BROKEN: [Invariant; 1] = [Invariant::Redundancy];
const OURS: &str = "0badcafe";
const THEIRS: &str = "deadbeef";
/// The lock is held from 100 ms until this time. Two ttls and the slack are 3 s.
const END: u64 = 8_000;
const NUMBER: u64 = 10;

/// Client 1 holds the lock and renews it, and all nodes are sampled every 200 ms. `of_four` gives the state of node 4
/// at a time; the other nodes have the key.
fn held(of_four: impl Fn(u64) -> (Option<&'static str>, Option<u64>)) -> Story {
    let mut story = story();
    story.take(1, 0, 100, Some(NUMBER));
    for at in (300..END).step_by(300) {
        story.look(1, 0, at, at + 900);
    }
    story.release(1, 0, END);
    for at in (100..END + 1_000).step_by(200) {
        let ours = (at > 100 && at < END).then_some(OURS);
        for node in 0..4 {
            story.sample(node, at + node as u64, ours, Some(NUMBER));
        }
        let (owner, fence) = of_four(at);
        story.sample(4, at + 4, owner, fence);
    }
    story
}

/// The key is on node 4 from the grant until `from`, and then missing.
fn gone(from: u64) -> Story {
    held(move |at| ((at < from).then_some(OURS), Some(NUMBER)))
}

fn because(verdict: &Verdict) -> &str {
    &verdict.expected[0].excuse
}

#[test]
fn a_key_on_every_node_is_counted_as_checked() {
    let verdict = check(&held(|at| ((at < END).then_some(OURS), Some(NUMBER))), &[], &[]);
    assert_eq!(verdict.totals.redundancy_checked, 1);
}

#[test]
fn a_key_that_is_missing_on_a_healthy_node_is_caught() {
    // It was there once, never, or another owner's key was there.
    for story in [gone(3_500), gone(0), held(|_| (Some(THEIRS), Some(NUMBER)))] {
        let verdict = check(&story, &BROKEN, &[]);
        assert_eq!(verdict.totals.redundancy_checked, 1);
        // It is reported once per lock and node.
        assert_eq!(verdict.violations.len(), 1);
        assert!(verdict.violations[0].message.contains("node 4, up and healthy"), "{verdict:?}");
        assert!(verdict.violations[0].message.contains("4 of 5 nodes had it"), "{verdict:?}");
    }
    let verdict = check(&gone(3_500), &BROKEN, &[]);
    assert!(verdict.violations[0].message.contains("last seen there at 3.304 s"), "{verdict:?}");
    assert_eq!(verdict.violations[0].events.len(), 3);
}

#[test]
fn a_node_has_two_ttls_to_get_the_key() {
    // It is back before the first moment that ends two ttls and the slack.
    check(&held(|at| ((at > 2_900 && at < END).then_some(OURS), Some(NUMBER))), &[], &[]);
    check(&held(|at| ((at > 3_200 && at < END).then_some(OURS), Some(NUMBER))), &BROKEN, &[]);
}

#[test]
fn a_lock_that_is_not_held_for_two_ttls_cannot_be_checked() {
    let mut story = story();
    story
        .take(1, 0, 100, Some(NUMBER))
        .look(1, 0, 1_000, 1_900)
        .look(1, 0, 1_800, 2_800)
        .release(1, 0, 2_700);
    for at in (100..5_000).step_by(200) {
        story.sample(0, at, None, None);
    }
    assert_eq!(check(&story, &[], &[]).totals.redundancy_checked, 0);

    // A run that should have had such a lock is no test, and reports it.
    story.settings.checks_redundancy = true;
    let verdict = check(&story, &[Invariant::CompleteHistory], &[]);
    assert!(verdict.violations[0].message.contains("redundancy was not tested"), "{verdict:?}");
}

#[test]
fn a_history_without_samples_is_no_violation() {
    let mut story = story();
    story.hold(1, 0, 100, 400, Some(10)).hold(2, 0, 40_000, 40_100, Some(11));
    assert_eq!(check(&story, &[], &[]).totals.redundancy_checked, 0);
}

#[test]
fn every_kind_of_fault_to_the_node_is_an_excuse_for_two_ttls() {
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
        let mut story = gone(3_500);
        story.fault(1, "trouble", &[4], 3_400, 7_000, &[effect]);
        let verdict = check(&story, &[], &[Invariant::Redundancy]);
        assert!(because(&verdict).contains("a fault hit the node"), "{effect:?}: {verdict:?}");
        assert_eq!(verdict.expected[0].count, 1, "once for a lock and a node");
    }
    // No excuse: a fault without effect on keys, on another node, or after the fact.
    for (node, from, effects) in
        [(4, 3_400, &[][..]), (3, 3_400, &[Effect::Paused]), (4, 7_900, &[Effect::Paused])]
    {
        let mut story = gone(3_500);
        story.fault(1, "trouble", &[node], from, 7_950, effects);
        check(&story, &BROKEN, &[]);
    }
}

#[test]
fn a_pause_is_an_excuse_until_two_ttls_after_its_end() {
    let paused = |to: u64| {
        let mut story = gone(2_000);
        story.fault(1, "pause", &[4], 1_900, to, &[Effect::Paused]);
        story
    };
    // Two ttls and the slack are 3 s, and the lock is seen until 8 s.
    check(&paused(4_910), &[], &[Invariant::Redundancy]);
    check(&paused(4_600), &BROKEN, &[]);
}

#[test]
fn a_restart_is_an_excuse_until_its_probation_is_over_as_well() {
    let restarted = |to: u64| {
        let mut story = gone(1_000);
        story.fault(1, "kill", &[4], 900, to, &[Effect::Down]);
        story
    };
    let verdict = check(&restarted(2_910), &[], &[Invariant::Redundancy]);
    assert!(because(&verdict).contains("a fault hit the node"), "{verdict:?}");
    check(&restarted(2_600), &BROKEN, &[]);
    // Without probation there is no such excuse.
    let mut plain = restarted(2_910);
    plain.settings.probation = false;
    check(&plain, &BROKEN, &[]);
    // A fault before the lock was requested, and over by then.
    let mut story = gone(0);
    story.fault(1, "flush", &[4], 10, 20, &WIPE);
    check(&story, &BROKEN, &[]);
    let mut story = gone(0);
    story.fault(1, "flush", &[4], 10, 20, &WIPE);
    // The client met the node late, and its probation began then.
    let stand = NodeView::OnProbation { until: forge::BOOT + 4_950 * forge::MS };
    story.say(1, 0, 2_900, EventKind::NodeViewChanged { node: 4, view: stand });
    let verdict = check(&story, &[], &[Invariant::Redundancy]);
    assert!(because(&verdict).contains("probation"), "{verdict:?}");
}

#[test]
fn a_probation_for_no_reason_excuses_nothing() {
    let mut story = gone(0);
    let stand = NodeView::OnProbation { until: forge::BOOT + 7_900 * forge::MS };
    story.say(1, 0, 150, EventKind::NodeViewChanged { node: 4, view: stand });
    check(&story, &BROKEN, &[]);
}

#[test]
fn a_client_that_excluded_a_node_is_excused_until_it_dials_again_but_not_forever() {
    let refused = |end: u64| {
        let mut story = gone(0);
        story.fault(1, "memory", &[4], 10, end, &[Effect::RejectsWrites]);
        story.say(1, 0, 120, EventKind::NodeViewChanged { node: 4, view: NodeView::Excluded });
        story
    };
    let verdict = check(&refused(90), &[], &[Invariant::Redundancy]);
    assert!(because(&verdict).contains("yet to dial it again"), "{verdict:?}");
    // The client has dialed it again.
    let mut story = refused(90);
    story.say(1, 0, 2_000, EventKind::NodeViewChanged { node: 4, view: NodeView::Up });
    check(&story, &BROKEN, &[]);
    // The client excluded the node without a reason.
    let mut story = gone(0);
    story.say(1, 0, 120, EventKind::NodeViewChanged { node: 4, view: NodeView::Excluded });
    check(&story, &BROKEN, &[]);
}

#[test]
fn a_node_of_which_nothing_was_seen_for_long_is_excused() {
    // Without samples the node's state is unknown, and every span of two ttls has such a gap.
    let unseen = |millis: u64| {
        let mut story = story();
        story.take(1, 0, 100, Some(NUMBER));
        for at in (300..END).step_by(300) {
            story.look(1, 0, at, at + 900);
        }
        story.release(1, 0, END);
        let is_seen = |at: &u64| ![2_000, 5_000].iter().any(|from| (*from..from + millis).contains(at));
        for at in (100..END).step_by(200).filter(is_seen) {
            story.sample(4, at, None, Some(NUMBER));
        }
        story
    };
    let verdict = check(&unseen(1_200), &[], &[Invariant::Redundancy]);
    assert!(because(&verdict).contains("the machine had no time"), "{verdict:?}");
    // A gap shorter than the slack of one second does not matter.
    check(&unseen(600), &BROKEN, &[]);
}

#[test]
fn a_network_is_an_excuse_for_those_behind_it() {
    let cut = |side: u32| {
        let mut story = gone(3_500);
        story.side = Some(side);
        story.fault(1, "cut", &[4], 3_400, 7_000, &[Effect::Unreachable]);
        story
    };
    // Client 1 is on the odd network.
    check(&cut(1), &[], &[Invariant::Redundancy]);
    check(&cut(0), &BROKEN, &[]);
}

#[test]
fn a_clock_that_is_steadily_off_excuses_nothing() {
    let mut story = gone(3_500);
    story.fault(1, "clock-offset", &[4], 50, END, &[Effect::ClockOffset { micros: -600_000 }]);
    check(&story, &BROKEN, &[]);
}

#[test]
fn a_node_with_a_stale_key_is_excused_for_two_ttls() {
    let occupied = |from: u64, to: u64| {
        let mut story = gone(3_500);
        story.fault(1, "stale-key", &[4], from, to, &[Effect::StaleKey]);
        story
    };
    check(&occupied(3_400, 7_000), &[], &[Invariant::Redundancy]);
    // The lock has had its time to get the key there.
    check(&occupied(50, 300), &BROKEN, &[]);
}

#[test]
fn a_client_that_stands_still_is_excused() {
    let mut story = gone(3_500);
    story.stop(1, 3_000, 3_600).stop(1, 5_500, 6_100);
    let verdict = check(&story, &[], &[Invariant::Redundancy]);
    assert!(because(&verdict).contains("the client stood still"), "{verdict:?}");
    // A shorter stop is within the slack.
    let mut story = gone(3_500);
    story.stop(1, 3_000, 3_400);
    check(&story, &BROKEN, &[]);
}

#[test]
fn a_larger_number_is_no_excuse() {
    // A rival was there while the key was missing.
    check(&held(|_| (None, Some(NUMBER + 1))), &BROKEN, &[]);
    // Its own late grant left the number, and the next renewal did not keep the key.
    check(&held(|at| ((at < 1_000).then_some(OURS), Some(NUMBER + 1))), &BROKEN, &[]);
    check(&held(|_| (None, Some(NUMBER))), &BROKEN, &[]);
}

#[test]
fn a_node_without_any_key_is_caught_even_if_the_owner_is_unknown() {
    // The other nodes disagree. That is strange, but no excuse.
    let mut story = story();
    story.take(1, 0, 100, Some(NUMBER));
    for at in (300..END).step_by(300) {
        story.look(1, 0, at, at + 900);
    }
    story.release(1, 0, END);
    for at in (100..END).step_by(200) {
        for (node, owner) in [(0, Some(OURS)), (1, Some(THEIRS)), (2, None)] {
            story.sample(node, at, owner, Some(NUMBER));
        }
    }
    let verdict = check(&story, &BROKEN, &[]);
    assert_eq!(verdict.violations.len(), 1, "{verdict:?}");
    assert!(verdict.violations[0].message.contains("node 2"), "{verdict:?}");
}
