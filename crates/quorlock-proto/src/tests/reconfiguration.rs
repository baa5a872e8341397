//! The steps of a reconfiguration: which roster follows, and what it waits for.

use std::sync::Arc;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::mutant::{Mutant, with};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::roster::foresight::PlannedStep;
use crate::roster::proposer::Proposer;
use crate::roster::reconfiguration::{Reconfiguration, Wait};
use crate::roster::record::Record;
use crate::roster::server_view::{Permissions, ServerView};
use crate::roster::{NodeList, Roster, SeatId};
use crate::test_util::founding::first_roster;
use crate::tests::world::ms;

const MAX_TTL_MS: u64 = 1_000;

/// A lock cluster of the first `founded` of these servers. The others are blank and wait for a seat.
struct Fleet {
    names: Vec<String>,
    servers: Vec<ServerView>,
    list: NodeSet,
    roster: Arc<Roster>,
}

fn nodes(indices: impl IntoIterator<Item = u8>) -> NodeSet {
    indices.into_iter().map(NodeId).collect()
}

fn fleet(founded: usize, blank: usize) -> Fleet {
    let names: Vec<String> = (0..founded + blank).map(|it| format!("node {it}")).collect();
    let config = LockClusterConfig::new(Quorum::new(founded, None).expect("a quorum"), ms(MAX_TTL_MS));
    let roster = Arc::new(first_roster(ClusterId::new(1), config));
    let server = |index: usize| {
        let was_member = index < founded;
        let roster = was_member.then(|| roster.clone());
        let record =
            Record { seat: SeatId(index as u64 + 1), was_member, roster, promised: None, accepted: None };
        ServerView { is_up: true, record: Some(record), hint: None, largest_number: 0, is_fit: true }
    };
    let servers = (0..founded + blank).map(server).collect();
    Fleet { names, servers, list: nodes(0..founded as u8), roster }
}

impl Fleet {
    fn reconfiguration(&self, to: NodeSet) -> Reconfiguration {
        Reconfiguration::new(self.names.clone(), (self.list, to), None, None)
    }

    /// Carries out the steps of a client that knows this first list, without their waits.
    fn run(&mut self, reconfiguration: &Reconfiguration) -> (Vec<Roster>, Option<Wait>) {
        let mut proposer = Proposer::new(1, NodeList::of(&self.names, self.list), self.roster.config)
            .with_reconfiguration(reconfiguration.clone());
        let (mut steps, mut waits_for) = (Vec::new(), None);
        for random in 1_000..1_500 {
            let may = self.permissions(random);
            let (writes, _) = proposer.writes(&self.servers, &may);
            waits_for = proposer.waits_for(&self.servers, &may);
            if writes.iter().all(Option::is_none) {
                break;
            }
            for (server, write) in self.servers.iter_mut().zip(writes) {
                let Some(write) = write else { continue };
                server.record = Record::after(server.record.as_ref(), None, &write);
            }
            let current = proposer.current(&self.servers).expect("a roster");
            if *current != self.roster {
                self.roster = current.clone();
                steps.push(Roster::clone(current));
            }
        }
        (steps, waits_for)
    }

    /// All members that reply vote.
    fn permissions(&self, random: u64) -> Permissions {
        let is_member =
            |it: &ServerView| it.is_up && it.record.as_ref().is_some_and(|it| it.is_member_of(&self.roster));
        let voting = nodes((0..self.servers.len() as u8).filter(|it| is_member(&self.servers[*it as usize])));
        permissions(voting, random)
    }
}

fn permissions(voting: NodeSet, random: u64) -> Permissions {
    Permissions {
        now_millis: 5_000,
        absent: NodeSet::EMPTY,
        to_vacate: NodeSet::EMPTY,
        may_found: false,
        leaves_out_unreachable: false,
        voting,
        is_settled: true,
        may_begin: true,
        random,
    }
}

/// N and q of each roster.
fn sizes(steps: &[Roster]) -> Vec<(usize, usize)> {
    steps.iter().map(|it| (it.seats.len(), it.config.quorum().needed())).collect()
}

#[test]
fn three_nodes_become_five_and_three_others() {
    let mut fleet = fleet(3, 2);
    let (steps, wait) = fleet.run(&fleet.reconfiguration(nodes(0..5)));
    assert_eq!((sizes(&steps), wait), (vec![(4, 3), (5, 3)], Some(Wait::Done)));
    fleet.list = nodes(0..5);
    let (steps, wait) = fleet.run(&fleet.reconfiguration(nodes(2..5)));
    assert_eq!((sizes(&steps), wait), (vec![(4, 3), (3, 2)], Some(Wait::Done)));
    let seats: Vec<_> = steps[1].seats.iter().filter_map(|it| it.id).collect();
    assert_eq!(seats, [SeatId(3), SeatId(4), SeatId(5)], "no seat changed hands");
}

#[test]
fn a_member_that_does_not_vote_is_exchanged_first() {
    let mut fleet = fleet(3, 2);
    fleet.servers[1].is_up = false;
    let (steps, wait) = fleet.run(&fleet.reconfiguration(nodes([2, 3, 4])));
    assert_eq!((steps.len(), wait), (2, Some(Wait::Done)));
    let kept = NodeList::of(&fleet.names, nodes([0, 2, 3])).hash();
    assert_eq!((steps[0].list, sizes(&steps)), (kept, vec![(3, 2), (3, 2)]));
}

#[test]
fn a_step_that_would_leave_too_few_voters_waits() {
    let mut fleet = fleet(3, 0);
    fleet.servers[1].is_up = false;
    assert_eq!(fleet.run(&fleet.reconfiguration(nodes(0..2))), (vec![], Some(Wait::TooFewVoters)));
}

#[test]
fn where_an_exchange_would_leave_too_few_voters_the_new_node_is_added_first() {
    let mut two = fleet(2, 1);
    let (steps, wait) = two.run(&two.reconfiguration(nodes([0, 2])));
    assert_eq!((sizes(&steps), wait), (vec![(3, 2), (2, 2)], Some(Wait::Done)));
    // All three must vote, before and after.
    let mut three = fleet(3, 1);
    let list = three.list;
    let all = Reconfiguration::new(three.names.clone(), (list, list), Some(3), None);
    assert_eq!(sizes(&three.run(&all).0), [(3, 3)]);
    let (steps, wait) = three.run(&three.reconfiguration(nodes([0, 1, 3])));
    assert_eq!((sizes(&steps), wait), (vec![(4, 3), (3, 3)], Some(Wait::Done)));
}

#[test]
fn a_node_that_does_not_reply_is_waited_for() {
    let mut fleet = fleet(3, 1);
    fleet.servers[3].is_up = false;
    assert_eq!(fleet.run(&fleet.reconfiguration(nodes(0..4))), (vec![], Some(Wait::NewNode(NodeId(3)))));
}

#[test]
fn an_interrupted_reconfiguration_goes_on_to_another_goal() {
    let mut fleet = fleet(3, 3);
    let (steps, _) = fleet.run(&fleet.reconfiguration(nodes([0, 1, 3])));
    assert_eq!(steps.len(), 1);
    // The list in force is neither of the two.
    let (steps, wait) = fleet.run(&fleet.reconfiguration(nodes([3, 4, 5])));
    assert_eq!((steps.len(), wait), (2, Some(Wait::Done)));
}

/// Carries out the writes of one client until it has none.
fn run_client(list: &[&str], config: LockClusterConfig, servers: &mut [ServerView]) {
    let mut proposer = Proposer::new(2, NodeList::new(list), config);
    for random in 2_000..2_100 {
        let may = Permissions { is_settled: false, ..permissions(NodeSet::EMPTY, random) };
        let (writes, _) = proposer.writes(servers, &may);
        for (server, write) in servers.iter_mut().zip(writes) {
            let Some(write) = write else { continue };
            server.record = Record::after(server.record.as_ref(), None, &write);
        }
    }
}

#[test]
fn a_step_that_only_one_member_remembers_is_finished_by_a_recovery() {
    let mut fleet = fleet(3, 1);
    let mut proposer = Proposer::new(1, NodeList::of(&fleet.names, fleet.list), fleet.roster.config)
        .with_reconfiguration(fleet.reconfiguration(nodes([0, 1, 3])));
    for random in 1_000..1_002 {
        let may = fleet.permissions(random);
        let (writes, _) = proposer.writes(&fleet.servers, &may);
        // Its proposal reaches one server.
        let reached = if random == 1_000 { 3 } else { 1 };
        for (server, write) in fleet.servers.iter_mut().zip(writes).take(reached) {
            server.record = write.and_then(|write| Record::after(server.record.as_ref(), None, &write));
        }
    }
    let accepted = |it: &ServerView| it.record.as_ref().is_some_and(|it| it.accepted.is_some());
    assert_eq!(fleet.servers.iter().filter(|it| accepted(it)).count(), 1);
    fleet.servers[1..].iter_mut().for_each(|server| server.record = None);
    // A client with the list before finishes the step, and one with the list after gives the servers seats.
    let (before, after) = (["node 0", "node 1", "node 2"], ["node 0", "node 1", "node 3"]);
    let config = fleet.roster.config;
    run_client(&before, config, &mut fleet.servers[..3]);
    let mut servers: Vec<ServerView> = [0, 1, 3].map(|node: usize| fleet.servers[node].clone()).into();
    run_client(&after, config, &mut servers);
    let list = NodeList::new(&after).hash();
    for server in &servers {
        let record = server.record.as_ref().expect("a record");
        let is_member = |roster: &Arc<Roster>| roster.list == list && record.is_member_of(roster);
        assert!(record.roster.as_ref().is_some_and(is_member), "{record:?}");
    }
}

/// The first `steps` rounds of writes of a client that reconfigures; it ends then.
fn begin(fleet: &mut Fleet, reconfiguration: &Reconfiguration, rounds: u64) {
    let mut proposer = Proposer::new(1, NodeList::of(&fleet.names, fleet.list), fleet.roster.config)
        .with_reconfiguration(reconfiguration.clone());
    for random in 1_000..1_000 + rounds {
        let may = fleet.permissions(random);
        let (writes, _) = proposer.writes(&fleet.servers, &may);
        for (server, write) in fleet.servers.iter_mut().zip(writes) {
            let Some(write) = write else { continue };
            server.record = Record::after(server.record.as_ref(), None, &write);
        }
        fleet.roster = proposer.current(&fleet.servers).expect("a roster").clone();
    }
}

#[test]
fn clients_with_either_list_finish_a_step_that_was_begun() {
    let is_sealed = |it: &ServerView| it.record.as_ref().is_some_and(Record::is_sealed);
    for list in [nodes(0..3), nodes(0..5)] {
        let mut left_sealed = 0;
        for rounds in 1..12 {
            let mut fleet = fleet(3, 2);
            let reconfiguration = fleet.reconfiguration(nodes(0..5));
            begin(&mut fleet, &reconfiguration, rounds);
            left_sealed += usize::from(fleet.servers.iter().any(is_sealed));
            let names: Vec<&str> = list.iter().map(|node| fleet.names[node.index()].as_str()).collect();
            run_client(&names, fleet.roster.config, &mut fleet.servers[..list.len()]);
            let members = &fleet.servers[..3];
            assert!(!members.iter().any(is_sealed), "after {rounds} rounds, with {list:?}");
            // The client has given no seat of its own: each roster has the seats that the reconfiguration gave.
            let roster = members[0].record.as_ref().and_then(|it| it.roster.clone()).expect("a roster");
            assert!(roster.seats.len() >= fleet.roster.seats.len());
            let wait = {
                fleet.roster = roster;
                fleet.run(&reconfiguration).1
            };
            assert_eq!(wait, Some(Wait::Done), "after {rounds} rounds, with {list:?}");
        }
        assert!(left_sealed > 2, "{left_sealed} of the interruptions left members sealed");
    }
}

#[test]
fn in_the_middle_of_a_reconfiguration_its_client_recovers_the_lock_cluster() {
    for (dead, absent, is_done) in [(None, 0, true), (Some(3), 0, false), (Some(3), 1, true)] {
        let mut fleet = fleet(3, 2);
        let reconfiguration = fleet.reconfiguration(nodes([2, 3, 4]));
        begin(&mut fleet, &reconfiguration, 3);
        assert_eq!(reconfiguration.nodes_of(fleet.roster.list), Some(nodes(1..4)));
        for server in &mut fleet.servers {
            server.hint = server.record.take().and_then(|it| it.roster);
        }
        if let Some(dead) = dead {
            fleet.servers[dead].is_up = false;
        }
        let absent = if absent > 0 { nodes([3]) } else { NodeSet::EMPTY };
        let mut proposer = Proposer::new(1, NodeList::of(&fleet.names, fleet.list), fleet.roster.config)
            .with_reconfiguration(reconfiguration.clone());
        for random in 3_000..3_050 {
            let may = Permissions { absent, is_settled: false, ..permissions(NodeSet::EMPTY, random) };
            let (writes, _) = proposer.writes(&fleet.servers, &may);
            for (server, write) in fleet.servers.iter_mut().zip(writes) {
                let Some(write) = write else { continue };
                server.record = Record::after(server.record.as_ref(), server.hint.as_ref(), &write);
            }
        }
        let current = proposer.current(&fleet.servers).expect("a roster");
        assert_eq!(current.epoch > fleet.roster.epoch, is_done, "{dead:?} {absent:?}: {current:?}");
        assert_eq!(current.list, fleet.roster.list, "the list stays as it was");
        if is_done {
            let is_member = |node: &u8| {
                fleet.servers[usize::from(*node)].record.as_ref().is_some_and(|it| it.is_member_of(current))
            };
            let members = nodes((0..5).filter(is_member));
            assert_eq!(members, if dead.is_some() { nodes(1..3) } else { nodes(1..4) });
        }
    }
}

/// Names that are not in the order of the nodes, two nodes that are in both lists, and all lists that have those two.
#[test]
fn each_list_between_the_two_is_found_by_its_hash_and_no_other() {
    let names: Vec<String> = ["g", "a", "ab", "f", "b", "c"].map(str::to_owned).to_vec();
    let reconfiguration = Reconfiguration::new(names.clone(), (nodes(0..4), nodes(2..6)), None, None);
    let is_between = |list: NodeSet| nodes(2..4).without(list).is_empty();
    let lists: Vec<NodeSet> = (0..1 << 6).map(NodeSet::from_bits).collect();
    for list in &lists {
        let found = reconfiguration.nodes_of(NodeList::of(&names, *list).hash());
        assert_eq!(found, is_between(*list).then_some(*list));
    }
    assert_eq!(lists.into_iter().filter(|list| is_between(*list)).count(), 16);
}

#[test]
fn another_list_is_left_alone() {
    let mut fleet = fleet(3, 3);
    let reconfiguration = Reconfiguration::new(fleet.names.clone(), (nodes(1..3), nodes(1..4)), None, None);
    fleet.list = nodes(1..3);
    assert_eq!(fleet.run(&reconfiguration), (vec![], Some(Wait::OtherList)));
}

#[test]
fn a_quorum_that_is_none_is_rejected() {
    let mut fleet = fleet(3, 0);
    let reconfiguration = Reconfiguration::new(fleet.names.clone(), (fleet.list, fleet.list), Some(1), None);
    assert_eq!(fleet.run(&reconfiguration), (vec![], Some(Wait::InvalidQuorum)));
}

/// The max ttl and the probation of each roster, in milliseconds, when the max ttl is changed.
fn spans(max_ttl: u64) -> Vec<(u128, u128)> {
    let mut fleet = fleet(3, 0);
    let list = fleet.list;
    let reconfiguration = Reconfiguration::new(fleet.names.clone(), (list, list), None, Some(ms(max_ttl)));
    let (steps, wait) = fleet.run(&reconfiguration);
    assert_eq!(wait, Some(Wait::Done));
    steps.iter().map(|it| (it.config.max_ttl().as_millis(), it.probation.as_millis())).collect()
}

#[test]
fn the_probation_is_never_shorter_than_locks_of_the_roster_before() {
    assert_eq!(spans(2_000), [(2_000, 2_000)]);
    assert_eq!(spans(500), [(500, 1_000), (500, 500)]);
}

#[test]
fn mutant_shortens_probation_at_once() {
    assert_eq!(with(Some(Mutant::ShortensProbationAtOnce), || spans(500)), [(500, 500)]);
}

#[test]
fn the_steps_that_are_foreseen_are_made() {
    for (founded, to) in [(1, 0..3), (3, 0..5), (3, 3..6), (5, 0..2), (2, 1..3), (4, 2..6)] {
        let blank = 6 - founded;
        let mut fleet = fleet(founded, blank);
        let reconfiguration = fleet.reconfiguration(nodes(to.clone()));
        let foreseen = reconfiguration.steps_from(&fleet.roster);
        let (made, _) = fleet.run(&reconfiguration);
        let foreseen: Vec<_> = foreseen.iter().map(|step| (step.nodes, step.quorum)).collect();
        assert_eq!(foreseen, sizes(&made), "{founded} to {to:?}");
    }
}

#[test]
fn a_step_that_leaves_too_few_votes_for_held_locks_is_foreseen() {
    let loses = |founded, to| {
        let fleet = fleet(founded, 6 - founded);
        let steps = fleet.reconfiguration(to).steps_from(&fleet.roster);
        steps.iter().map(PlannedStep::loses_locks).collect::<Vec<_>>()
    };
    assert_eq!(loses(1, nodes(0..3)), [true, false], "one of two votes, and both must");
    assert_eq!(loses(3, nodes(0..5)), [false, false]);
    assert_eq!(loses(3, nodes(1..4)), [false]);
    assert_eq!(loses(1, nodes(0..1)), []);
}
