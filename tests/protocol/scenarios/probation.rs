//! Who may vote: nodes that remember what they should, and did not wake up a moment ago.

use std::time::Duration;

use crate::node::{Data, Entry, Node, Slot};
use crate::protocol::attempt::Why;
use crate::protocol::board::{Board, Id, Limits};
use crate::protocol::claim::Phase;
use crate::protocol::marker::{Charter, ClusterId, Marker};
use crate::protocol::membership::{Declared, Membership, Standing};
use crate::protocol::quorum::Quorum;
use crate::protocol::terms::Drift;
use crate::protocol::vote::{Bar, Doubt, Fault, Vote};
use crate::world::{ALICE, BOB, LONGEST_TTL, NODE_TIMEOUT, REDIAL_AFTER, Wish, World, ms};

/// How often a node is asked what it remembers.
const LOOK: Duration = Duration::from_millis(7_500);
const LAST_MOMENT: Duration = Duration::from_millis(29_999);

/// Nodes that nobody has met, and these clients.
fn blank(nodes: usize, clients: usize) -> World {
    World::unconnected(nodes, None, clients, Some(LONGEST_TTL))
}

fn standing(world: &World, who: usize, node: usize) -> Standing {
    world.clients[who].standings[node].clone().unwrap_or_default()
}

fn is_voting(world: &World, who: usize, node: usize) -> bool {
    standing(world, who, node) == Standing::Voting
}

fn doubt(world: &World, who: usize, node: usize) -> Option<Doubt> {
    match standing(world, who, node) {
        Standing::Doubtful(_, doubt) => Some(doubt),
        _ => None,
    }
}

fn bar(world: &World, who: usize, node: usize) -> Option<Bar> {
    match standing(world, who, node) {
        Standing::Barred(bar) => Some(bar),
        _ => None,
    }
}

fn marker(world: &World, node: usize) -> Option<Marker> {
    let entry = world.servers[node].node.data().get(&Slot::Marker)?;
    Marker::parse(std::str::from_utf8(entry.value.as_deref()?).ok()?)
}

fn set_marker(world: &mut World, node: usize, text: &str) {
    let entry = Entry { value: Some(text.into()), expires: None };
    world.servers[node].node.data_mut().insert(Slot::Marker, entry);
}

fn data(world: &World, node: usize) -> Data {
    world.servers[node].node.data().clone()
}

/// This client is on other terms than the rest.
fn is_on_terms(world: &mut World, who: usize, quorum: Quorum, longest_ttl: Duration, takes_in: bool) {
    let drift = Drift::new(0.01).expect("a usual drift");
    let members = Membership::new(Charter::new(quorum, longest_ttl), drift, takes_in);
    let limits = Limits { node_timeout: NODE_TIMEOUT, redial_after: REDIAL_AFTER };
    world.clients[who].board = Board::guarded(quorum, limits, members);
}

fn connect(world: &mut World, who: usize) {
    (0..world.servers.len()).for_each(|node| world.connect(who, node));
    world.drive();
}

/// Alice holds the lock on the first two of three nodes, and the second of them is about to forget.
fn held_by_two() -> (World, Id, Data) {
    let mut world = World::guarded(3);
    let before = data(&world, 1);
    world.cut(ALICE, 2);
    let lock = world.hold(ALICE);
    world.connect(ALICE, 2);
    world.drive();
    (world, lock, before)
}

fn try_to_take(world: &mut World, who: usize) -> crate::protocol::attempt::Refusal {
    world.acquire(who);
    world.drive();
    world.refusal(who).expect("it may not be had")
}

#[test]
fn blank_nodes_become_a_cluster_on_probation_whoever_meets_them_first() {
    let mut world = blank(3, 2);
    world.connect_all();
    // Both have seen them blank, and both write.
    assert!((0..2).all(|who| (0..3).all(|node| world.wire(who, node) == [Phase::Look])));
    world.drive();
    let ids: Vec<_> = (0..3).map(|node| marker(&world, node).map(|marker| marker.cluster)).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for who in [ALICE, BOB] {
        assert!((0..3).all(|node| doubt(&world, who, node) == Some(Doubt::New)), "client {who}");
        let refusal = try_to_take(&mut world, who);
        assert_eq!(refusal.why, Why::OnProbation { retry_after: Some(LONGEST_TTL) });
        assert_eq!(refusal.votes[0], Vote::Doubtful { remaining: LONGEST_TTL, doubt: Doubt::New });
        assert!(world.is_nothing_sent(who));
    }
    world.live(LAST_MOMENT);
    let refusal = try_to_take(&mut world, ALICE);
    assert_eq!(refusal.why, Why::OnProbation { retry_after: Some(ms(1)) });
    world.live(ms(1));
    assert!((0..3).all(|node| is_voting(&world, ALICE, node) && is_voting(&world, BOB, node)));
    world.hold(ALICE);
}

#[test]
fn who_comes_later_finds_the_cluster_that_was_founded() {
    let mut world = blank(3, 2);
    connect(&mut world, ALICE);
    let founded = marker(&world, 0);
    world.live(ms(10_000));
    connect(&mut world, BOB);
    assert_eq!(marker(&world, 0), founded, "nothing is written anew");
    let refusal = try_to_take(&mut world, BOB);
    assert_eq!(refusal.why, Why::OnProbation { retry_after: Some(ms(20_000)) }, "by the markers");
}

#[test]
fn founding_waits_until_every_node_was_met() {
    let mut world = blank(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    world.drive();
    assert!((0..3).all(|node| marker(&world, node).is_none()), "who is away may know better");
    let refusal = try_to_take(&mut world, ALICE);
    assert_eq!(refusal.votes[0], Vote::Unknown(Fault::Undecided));
    world.connect(ALICE, 2);
    world.drive();
    assert!((0..3).all(|node| marker(&world, node).is_some()));
}

#[test]
fn one_node_alone_is_a_cluster_too() {
    let mut world = blank(1, 1);
    connect(&mut world, ALICE);
    world.live(LONGEST_TTL);
    world.hold(ALICE);
    world.restart(0, Data::new());
    connect(&mut world, ALICE);
    assert_eq!(try_to_take(&mut world, ALICE).why, Why::OnProbation { retry_after: Some(LONGEST_TTL) });
}

#[test]
fn declared_nodes_vote_at_once() {
    for takes_in in [false, true] {
        let mut world = blank(3, 2);
        let quorum = world.quorum();
        is_on_terms(&mut world, ALICE, quorum, LONGEST_TTL, takes_in);
        connect(&mut world, ALICE);
        let expected = (!takes_in).then_some(Bar::Blank);
        assert_eq!(bar(&world, ALICE, 0), expected, "who only looks founds nothing by the way");
        assert_eq!(world.declare_as(ALICE, 7, takes_in), Some(Declared::Fresh));
        let id = Some(ClusterId::new(7));
        assert!((0..3).all(|node| marker(&world, node).map(|it| it.cluster) == id));
        connect(&mut world, BOB);
        assert!((0..3).all(|node| is_voting(&world, BOB, node)), "whoever meets them first");
        world.hold(BOB);
    }
}

#[test]
fn who_had_another_marker_before_a_declaration_was_forced_waits_by_its_own_clock() {
    let mut world = World::guarded(3);
    assert_eq!(world.declare_as(ALICE, 7, true), Some(Declared::Fresh));
    world.live(LOOK);
    // They may have held locks under the old one.
    assert!((0..3).all(|node| doubt(&world, BOB, node) == Some(Doubt::Forgot)));
    world.live(LONGEST_TTL);
    world.hold(BOB);
}

#[test]
fn nodes_that_are_a_cluster_are_declared_only_by_force() {
    let mut world = World::guarded(3);
    let before = marker(&world, 0);
    assert_eq!(world.declare_as(ALICE, 7, false), Some(Declared::Already));
    assert_eq!(marker(&world, 0), before);

    let mut world = blank(3, 1);
    set_marker(&mut world, 1, "something");
    connect(&mut world, ALICE);
    assert_eq!(world.declare_as(ALICE, 7, false), Some(Declared::NotBlank));
    assert!(marker(&world, 0).is_none() && marker(&world, 2).is_none(), "nothing was changed");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(Declared::Fresh));
    world.hold(ALICE);
}

#[test]
fn all_nodes_must_be_there_to_be_declared() {
    let mut world = blank(3, 1);
    (0..2).for_each(|node| world.connect(ALICE, node));
    for is_forced in [false, true] {
        assert_eq!(world.declare_as(ALICE, 7, is_forced), Some(Declared::Unreachable));
    }
    assert!((0..3).all(|node| marker(&world, node).is_none()));
}

#[test]
fn a_node_that_goes_away_while_it_is_declared_ends_the_declaration() {
    let mut world = blank(3, 1);
    let quorum = world.quorum();
    is_on_terms(&mut world, ALICE, quorum, LONGEST_TTL, false);
    connect(&mut world, ALICE);
    world.servers[1].hangs = true;
    assert_eq!(world.declare_as(ALICE, 7, false), None, "two have it, one is silent");
    world.cut(ALICE, 1);
    let told = world.news(ALICE);
    assert_eq!(told, [crate::protocol::board::News::Declared(Declared::Unreachable)]);
    world.servers[1].hangs = false;
    connect(&mut world, ALICE);
    assert_eq!(world.declare_as(ALICE, 7, false), Some(Declared::NotBlank), "two of them are not");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(Declared::Fresh));
}

#[test]
fn a_declaration_waits_for_what_nodes_are_being_asked() {
    let mut world = World::guarded(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    assert_eq!(world.wire(ALICE, 1), [Phase::Look], "it is being taken back");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(Declared::Fresh));
    let ids: Vec<_> = (0..3).filter_map(|node| marker(&world, node)).map(|marker| marker.cluster).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let mut world = World::guarded(3);
    world.sleep(LOOK);
    assert_eq!(world.wire(ALICE, 0), [Phase::Look], "just asked, as now and then");
    assert_eq!(world.declare_as(ALICE, 7, true), Some(Declared::Fresh));
}

/// The very fault that probation is for: with the vote of a node that forgot, two would hold the lock.
#[test]
fn a_node_that_forgot_a_lock_casts_no_vote_until_the_lock_is_over() {
    type Forget = fn(&mut World, Data);
    let ways: [(&str, Forget); 5] = [
        ("restarted empty", |world, _| world.restart(1, Data::new())),
        ("restarted with old data", |world, before| world.restart(1, before)),
        ("flushed", |world, _| world.flush(1)),
        ("promoted, empty", |world, _| world.change_role(1, Data::new())),
        ("promoted, of another cluster", |world, before| {
            let other = before.into_iter().map(|(slot, mut entry)| {
                entry.value = entry.value.map(|_| b"quorlock1 00 3 2 30000 a:b 1".to_vec());
                (slot, entry)
            });
            world.change_role(1, other.collect());
        }),
    ];
    for (way, forget) in ways {
        let (mut world, lock, before) = held_by_two();
        forget(&mut world, before);
        (0..2).for_each(|who| world.connect(who, 1));
        let refusal = try_to_take(&mut world, BOB);
        assert!(matches!(refusal.why, Why::Contended { .. }), "{way}: {:?}", refusal.why);
        assert!(!refusal.votes[1].is_grant(), "{way}: {:?}", refusal.votes[1]);
        assert!(world.is_valid(ALICE, lock) && !is_voting(&world, BOB, 1), "{way}");
        assert_eq!(world.overlap, None, "{way}");
    }
}

#[test]
fn a_node_that_was_promoted_with_old_data_is_found_out_by_the_next_look() {
    let (mut world, _, before) = held_by_two();
    world.change_role(1, before);
    assert!(is_voting(&world, BOB, 1), "the marker is the same, only INFO tells");
    world.live(LOOK);
    assert_eq!(doubt(&world, BOB, 1), Some(Doubt::Forgot));
}

#[test]
fn a_node_that_forgot_is_taken_back_after_the_longest_ttl() {
    let (mut world, lock, _) = held_by_two();
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    world.drive();
    let since = marker(&world, 1).expect("it was told again").since_micros;
    assert_eq!(marker(&world, 1).map(|it| it.cluster), marker(&world, 0).map(|it| it.cluster));
    world.release(ALICE, lock);
    world.drive();
    world.cut(BOB, 2);
    let refusal = try_to_take(&mut world, BOB);
    assert_eq!(refusal.why, Why::OnProbation { retry_after: Some(LONGEST_TTL) });
    world.live(LAST_MOMENT);
    assert_eq!(try_to_take(&mut world, BOB).why, Why::OnProbation { retry_after: Some(ms(1)) });
    world.live(ms(1));
    world.hold(BOB);
    assert_eq!(marker(&world, 1).map(|it| it.since_micros), Some(since));
}

#[test]
fn a_vote_that_says_changed_counts_for_nothing_and_is_followed_by_a_look_at_once() {
    let mut world = World::guarded(3);
    world.flush(1);
    world.acquire(BOB);
    world.step(BOB, 1);
    assert_eq!(world.wire(BOB, 1), [Phase::Look]);
    world.step(BOB, 1);
    assert_eq!(world.wire(BOB, 1), [Phase::Look], "blank: it is told what it was");
    world.drive();
    assert_eq!(doubt(&world, BOB, 1), Some(Doubt::Forgot));
    world.acquire(BOB);
    assert_eq!(world.wire(BOB, 1), [], "nobody asks it for a vote");
}

#[test]
fn a_renewal_does_not_count_a_node_that_forgot() {
    let (mut world, lock, _) = held_by_two();
    world.cut(ALICE, 2);
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    world.live(ms(9_880));
    assert!(world.is_valid(ALICE, lock));
    world.live(ms(20));
    assert!(!world.is_valid(ALICE, lock), "one node of three could not renew it");
}

#[test]
fn a_node_is_taken_back_only_if_enough_others_say_where_it_belongs() {
    let mut world = World::guarded(3);
    let client = |world: &mut World, up: &[usize]| {
        up.iter().for_each(|node| world.connect(BOB, *node));
        world.drive();
    };
    (0..3).for_each(|node| world.cut(BOB, node));
    let quorum = world.quorum();
    is_on_terms(&mut world, BOB, quorum, LONGEST_TTL, true);
    (0..3).for_each(|node| world.cut(ALICE, node));
    world.flush(1);
    client(&mut world, &[0, 1]);
    assert!(marker(&world, 1).is_none(), "one says so; it could be {{a, d, e}}");
    assert_eq!(try_to_take(&mut world, BOB).votes[1], Vote::Unknown(Fault::Undecided));
    client(&mut world, &[2]);
    assert!(marker(&world, 1).is_some(), "two of three say so");

    // Where a quorum is all nodes, all others are enough.
    let mut world = World::guarded(2);
    world.flush(1);
    is_on_terms(&mut world, BOB, Quorum::new(2, None).expect("two"), LONGEST_TTL, true);
    (0..2).for_each(|node| world.cut(BOB, node));
    (0..2).for_each(|node| world.cut(ALICE, node));
    connect(&mut world, BOB);
    assert_eq!(marker(&world, 1).map(|it| it.cluster), marker(&world, 0).map(|it| it.cluster));
}

#[test]
fn a_stranger_takes_nobody_back_where_most_have_forgotten_and_who_knew_them_does() {
    let mut world = World::guarded(3);
    (0..3).for_each(|node| world.cut(BOB, node));
    let quorum = world.quorum();
    is_on_terms(&mut world, BOB, quorum, LONGEST_TTL, true);
    world.restart(0, Data::new());
    world.restart(1, Data::new());
    connect(&mut world, BOB);
    assert_eq!((bar(&world, BOB, 0), bar(&world, BOB, 1)), (Some(Bar::Blank), Some(Bar::Blank)));
    assert!(matches!(bar(&world, BOB, 2), Some(Bar::AnotherCluster(_))));
    assert_eq!(try_to_take(&mut world, BOB).why, Why::Barred);
    connect(&mut world, ALICE);
    assert!((0..2).all(|node| doubt(&world, ALICE, node) == Some(Doubt::Forgot)));
    world.live(LOOK);
    assert!((0..2).all(|node| doubt(&world, BOB, node).is_some()), "and so the stranger learns it");
}

/// Two lists that share one node: there, two quorums need not meet.
#[test]
fn two_clusters_never_share_a_node() {
    let mut theirs = World::guarded(3);
    let lock = theirs.hold(ALICE);
    let mut ours = blank(3, 1);
    ours.servers[0].node = theirs.servers[0].node.clone();
    (1..3).for_each(|node| ours.servers[node].node = Node::new(node + 2));
    connect(&mut ours, ALICE);
    assert!(matches!(bar(&ours, ALICE, 0), Some(Bar::AnotherCluster(_))));
    assert_eq!((bar(&ours, ALICE, 1), bar(&ours, ALICE, 2)), (Some(Bar::Blank), Some(Bar::Blank)));
    assert_eq!(try_to_take(&mut ours, ALICE).why, Why::Barred);
    assert_eq!(ours.declare_as(ALICE, 7, false), Some(Declared::NotBlank));
    assert!((1..3).all(|node| marker(&ours, node).is_none()) && ours.has(0, lock));

    // The other two are a cluster of their own, and the shared node is in the way of nobody.
    let mut ours = World::guarded(3);
    ours.servers[0].node = theirs.servers[0].node.clone();
    let text =
        format!("{} a:b 1", Marker::identity(ClusterId::new(9), Charter::new(ours.quorum(), LONGEST_TTL)));
    set_marker(&mut ours, 0, &text);
    (0..2).for_each(|who| ours.cut(who, 0));
    connect(&mut ours, ALICE);
    assert!(matches!(bar(&ours, ALICE, 0), Some(Bar::AnotherCluster(_))));
    assert!(is_voting(&ours, ALICE, 1) && is_voting(&ours, ALICE, 2));
    assert_eq!(data(&ours, 0).get(&Slot::Marker).and_then(|it| it.value.clone()), Some(text.into()));
}

#[test]
fn clients_on_other_terms_are_told_so_and_change_nothing() {
    let five = Quorum::new(5, None).expect("a quorum");
    let four = Quorum::new(5, Some(4)).expect("a quorum");
    for (quorum, longest_ttl) in [(four, LONGEST_TTL), (five, LONGEST_TTL * 2)] {
        let mut world = World::guarded(5);
        let before = marker(&world, 0);
        (0..5).for_each(|node| world.cut(BOB, node));
        is_on_terms(&mut world, BOB, quorum, longest_ttl, true);
        connect(&mut world, BOB);
        let Some(Bar::AnotherCluster(words)) = bar(&world, BOB, 0) else { panic!("no bar") };
        assert!(words.contains("a quorum of 3, a longest ttl of 30s"), "{words}");
        assert_eq!(try_to_take(&mut world, BOB).why, Why::Barred);
        assert_eq!(world.declare_as(BOB, 7, false), Some(Declared::NotBlank));
        assert_eq!(marker(&world, 0), before);
    }
}

#[test]
fn a_marker_that_cannot_be_read_bars_its_node_and_is_left_alone() {
    for text in ["hello", "quorlock1", "quorlock2 00 3 2 30000 a:b 1"] {
        let mut world = World::guarded(3);
        set_marker(&mut world, 1, text);
        world.live(LOOK);
        assert!(matches!(bar(&world, ALICE, 1), Some(Bar::Unfit(_))), "{text:?}");
        let lock = world.hold(ALICE);
        assert!(world.has(0, lock) && !world.has(1, lock) && world.has(2, lock));
        assert_eq!(data(&world, 1)[&Slot::Marker].value.as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn a_node_that_evicts_does_not_vote_until_it_stops() {
    let mut world = World::guarded(3);
    world.servers[1].node.evicts = true;
    world.live(LOOK);
    assert_eq!(bar(&world, ALICE, 1), Some(Bar::Evicts));
    let lock = world.hold(ALICE);
    assert!(!world.has(1, lock));
    world.servers[1].node.evicts = false;
    world.live(LOOK);
    assert!(is_voting(&world, ALICE, 1), "it forgot nothing that its marker would tell of");
}

#[test]
fn who_saw_a_node_change_waits_by_its_own_clock_whatever_the_nodes_clock_says() {
    let mut world = World::guarded(3);
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.drive();
    world.set_clock(1, 3_600_000);
    world.live(LAST_MOMENT);
    assert_eq!(doubt(&world, ALICE, 1), Some(Doubt::Forgot), "its clock has said for long that it is over");
    world.live(ms(1));
    assert!(is_voting(&world, ALICE, 1));
    // Who meets it only now has nothing but the marker to go by.
    world.connect(BOB, 1);
    assert_eq!(doubt(&world, BOB, 1), Some(Doubt::Forgot), "Bob knew it, and saw it change just now");
}

#[test]
fn a_node_on_probation_says_so_itself_to_who_does_not_know() {
    let mut world = World::guarded(3);
    // Its clock is behind by ten seconds, so its probation, just over, is not.
    world.set_clock(1, -10_000);
    let lock = world.acquire(ALICE);
    world.step(ALICE, 1);
    assert_eq!(doubt(&world, ALICE, 1), Some(Doubt::Forgot));
    world.abandon(ALICE, lock);
    world.drive();
    let lock = world.hold(BOB);
    assert!(!world.has(1, lock));
    world.live(ms(10_000));
    assert!(is_voting(&world, BOB, 1));
}

#[test]
fn a_clock_that_was_set_back_behind_the_marker_begins_a_probation_of_the_usual_length() {
    for asks_first in [false, true] {
        let mut world = World::guarded(3);
        let before = marker(&world, 1).expect("a marker").since_micros;
        world.set_clock(1, -3_600_000);
        if asks_first {
            world.hold(ALICE);
        }
        world.live(LOOK + ms(100));
        let since = marker(&world, 1).expect("a marker").since_micros;
        assert!(since < before && since <= world.servers[1].node.micros(world.now(ALICE).boot_nanos()));
        assert_eq!(doubt(&world, ALICE, 1), Some(Doubt::Forgot));
        world.live(LONGEST_TTL + LOOK);
        assert!(is_voting(&world, ALICE, 1), "asked for a vote first: {asks_first}");
    }
}

#[test]
fn two_clients_that_take_a_node_back_at_once_agree() {
    let mut world = World::guarded(3);
    world.restart(1, Data::new());
    (0..2).for_each(|who| world.connect(who, 1));
    assert_eq!((world.wire(ALICE, 1), world.wire(BOB, 1)), (vec![Phase::Look], vec![Phase::Look]));
    world.step(ALICE, 1);
    let written = data(&world, 1)[&Slot::Marker].value.clone();
    world.pass(ms(5));
    world.step(BOB, 1);
    assert_eq!(data(&world, 1)[&Slot::Marker].value, written, "only the first writes");
    world.live(LONGEST_TTL);
    world.hold(ALICE);
    assert!((0..2).all(|who| is_voting(&world, who, 1)));
}

#[test]
fn nodes_are_looked_at_every_quarter_of_the_longest_ttl() {
    let mut world = World::guarded(3);
    for _ in 0..4 {
        world.sleep(LOOK - Duration::from_nanos(1));
        assert!(world.is_nothing_sent(ALICE));
        world.sleep(Duration::from_nanos(1));
        assert!((0..3).all(|node| world.wire(ALICE, node) == [Phase::Look]));
        world.drive();
    }
}

#[test]
fn a_look_that_is_not_known_goes_out_as_text() {
    let mut world = World::guarded(3);
    world.flush_scripts(1);
    world.sleep(LOOK);
    world.step(ALICE, 1);
    assert!(world.commands(ALICE, 1).all(|command| command.as_text && command.ask.phase == Phase::Look));
    assert!(world.step(ALICE, 1) && is_voting(&world, ALICE, 1));

    // Also if it is to write.
    world.restart(1, Data::new());
    world.connect(ALICE, 1);
    world.flush_scripts(1);
    world.drive();
    assert!(marker(&world, 1).is_some());
}

#[test]
fn a_look_that_gets_no_answer_of_use_is_asked_again_and_changes_nothing() {
    let mut world = World::guarded(3);
    world.sleep(LOOK);
    world.servers[1].excuses.push_back(Vote::Unknown(Fault::Refused("BUSY".into())));
    world.drive();
    assert!(is_voting(&world, ALICE, 1) && world.is_up(ALICE, 1));
    world.sleep(LOOK);
    assert_eq!(world.wire(ALICE, 1), [Phase::Look]);
}

#[test]
fn a_refusal_for_probation_tells_when_a_quorum_may_be_had() {
    let mut world = World::guarded_with(5, None, 2);
    for (node, pause) in [(0, 4_000), (1, 5_000), (2, 0)] {
        world.restart(node, Data::new());
        (0..2).for_each(|who| world.connect(who, node));
        world.drive();
        world.live(ms(pause));
    }
    let refusal = try_to_take(&mut world, BOB);
    // Two vote at once, and with the first of the three to end its probation they are a quorum.
    assert_eq!(refusal.why, Why::OnProbation { retry_after: Some(ms(21_000)) });
    assert!(world.keys() == 0 && world.is_nothing_sent(BOB));
    world.live(ms(21_000));
    world.hold(BOB);
}

#[test]
fn after_a_flush_of_scripts_a_guarded_grant_goes_out_as_text() {
    let mut world = World::guarded(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.acquire(ALICE);
    world.step(ALICE, 0);
    assert!(world.commands(ALICE, 0).all(|command| command.as_text && command.ask.phase == Phase::Grant));
    world.drive();
    assert!(world.is_valid(ALICE, lock));
}

#[test]
fn a_grant_is_never_sent_as_text_behind_its_undo() {
    let mut world = World::guarded(3);
    (0..3).for_each(|node| world.flush_scripts(node));
    let lock = world.acquire(ALICE);
    world.abandon(ALICE, lock);
    for node in 0..3 {
        assert_eq!(world.wire(ALICE, node), [Phase::Grant, Phase::Release]);
        world.step(ALICE, node);
        assert_eq!(world.wire(ALICE, node), [Phase::Release], "nothing is sent behind it");
    }
    world.drive();
    assert_eq!((world.keys(), world.undone(ALICE)), (0, 0));

    // A straggler of a lock that was won does without: the next renewal takes that node.
    let mut world = World::guarded(3);
    world.flush_scripts(2);
    world.acquire(ALICE);
    world.step(ALICE, 0);
    world.step(ALICE, 1);
    world.step(ALICE, 2);
    assert_eq!(world.wire(ALICE, 2), []);
    world.live(ms(3_500));
    assert_eq!(world.keys(), 3);
}

#[test]
fn a_vote_that_was_under_way_when_its_node_was_found_out_does_not_count() {
    let mut world = World::guarded(3);
    world.hold_as(ALICE, Wish { ttl: ms(1_000), auto_renew: false, ..Wish::default() });
    world.live(LOOK - ms(1_000));
    world.sleep(ms(1_000));
    world.acquire(BOB);
    // The look is ahead of the grant on the wire, and tells of another server.
    assert_eq!(world.wire(BOB, 1), [Phase::Look, Phase::Grant]);
    let before = data(&world, 1);
    world.change_role(1, before);
    world.deliver(BOB, 1);
    world.deliver(BOB, 1);
    world.answer(BOB, 1);
    world.answer(BOB, 1);
    world.drive();
    assert!(!is_voting(&world, BOB, 1));
    assert_eq!(world.overlap, None);
}
