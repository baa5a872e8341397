//! The proposer against servers that carry out its writes at once.

use std::sync::Arc;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::mutant::{Mutant, with};
use crate::quorum::{NodeId, NodeSet, Quorum};
use crate::roster::proposer::{Outcome, Proposer};
use crate::roster::record::{Ballot, Record, RecordWrite};
use crate::roster::server_view::{Permissions, ServerView};
use crate::roster::{Epoch, NodeList, Roster, SeatId};
use crate::test_util::founding::{first_roster, node_list};
use crate::tests::world::ms;

/// Servers without memory had accepted a recovery, and each was restarted after the others had accepted. So
/// the roster that the next ballot takes over has none of their seats.
#[test]
fn a_recovery_without_a_seat_of_any_server_is_followed_by_another() {
    let lost = Arc::new(first_roster(ClusterId::new(7), config()));
    let (ballot, epoch) = (Ballot { count: 1, client: 9 }, Epoch::default().after_recovery());
    let mut servers: Vec<ServerView> = (1..=3)
        .map(|id| {
            let accepted = Some((ballot, lost.clone()));
            record_view(Record {
                seat: SeatId(100 + id),
                was_member: false,
                roster: None,
                promised: Some(ballot),
                accepted,
            })
        })
        .collect();
    let mut proposer = Proposer::new(1, node_list(3), config());
    run(&mut proposer, &mut servers);
    let roster = proposer.current(&servers).expect("a roster");
    assert_eq!(roster.epoch, epoch.after_recovery(), "{}", roster.to_text());
    for server in &servers {
        assert!(server.record.as_ref().is_some_and(|it| it.is_member_of(roster)), "{server:?}");
    }
}

/// All servers lost a roster to older data, and a recovery gave its number to another one. A client that knew
/// the lost one, and has reached one server since, does not bring it back.
#[test]
fn a_roster_that_only_servers_which_do_not_reply_had_replaces_no_other_with_its_number() {
    for (lost, chosen) in [(7, 8), (8, 7)] {
        let roster =
            |fence_base| Arc::new(Roster { fence_base, ..first_roster(ClusterId::new(1), config()) });
        let view = |is_up, seat, fence_base| {
            let roster = Some(roster(fence_base));
            let record =
                Record { seat: SeatId(seat), was_member: true, roster, promised: None, accepted: None };
            ServerView { is_up, ..record_view(record) }
        };
        let servers = [view(true, 1, chosen), view(false, 2, lost), view(false, 3, lost)];
        let mut proposer = Proposer::new(1, node_list(3), config());
        let (writes, _) = proposer.writes(&servers, &permissions(1));
        assert!(!writes.iter().any(|it| matches!(it, Some(RecordWrite::Carry(_)))), "{writes:?}");
    }
}

/// Two servers lost all data while the third did not reply, and founded another lock cluster. Then the third
/// starts with its data, and one of the others loses its data again or gets earlier data.
#[test]
fn a_server_with_data_of_an_earlier_lock_cluster_takes_part_in_a_recovery() {
    for (earlier, founded, is_blank) in [(7, 8, true), (8, 7, true), (7, 8, false), (8, 7, false)] {
        let roster = |cluster| Arc::new(first_roster(ClusterId::new(cluster), config()));
        let member = Record {
            seat: SeatId(1),
            was_member: true,
            roster: Some(roster(founded)),
            promised: None,
            accepted: None,
        };
        let blank = ServerView { is_up: true, is_fit: true, ..ServerView::default() };
        let stale = ServerView { hint: Some(roster(earlier)), ..blank.clone() };
        let mut servers = vec![record_view(member), if is_blank { blank } else { stale.clone() }, stale];
        let mut proposer = Proposer::new(1, node_list(3), config());
        run(&mut proposer, &mut servers);
        let roster = proposer.current(&servers).expect("a roster");
        assert_eq!(roster.cluster, ClusterId::new(founded));
        for server in &servers {
            assert!(server.record.as_ref().is_some_and(|it| it.is_member_of(roster)), "{server:?}");
        }
    }
}

/// A member that was restarted waits for a seat.
fn with_restarted_member(largest_number: u64) -> Vec<ServerView> {
    let roster = Arc::new(first_roster(ClusterId::new(1), config()));
    let view = |id: u64| {
        let (roster, was_member) = (Some(roster.clone()), id != 3);
        let seat = SeatId(if was_member { id } else { 9 });
        let record = Record { seat, was_member, roster, promised: None, accepted: None };
        ServerView { largest_number, ..record_view(record) }
    };
    (1..=3).map(view).collect()
}

/// How many promises the proposer asks for.
fn promises(servers: &[ServerView], may: &Permissions) -> usize {
    let (writes, _) = Proposer::new(1, node_list(3), config()).writes(servers, may);
    writes.iter().filter(|it| matches!(it, Some(RecordWrite::Promise(_)))).count()
}

#[test]
fn a_server_that_may_not_vote_gets_no_seat() {
    let mut servers = with_restarted_member(0);
    assert_eq!(promises(&servers, &permissions(1_000)), 2);
    servers[2].is_fit = false;
    assert_eq!(promises(&servers, &permissions(1_000)), 0);
}

#[test]
fn a_client_that_may_not_begin_a_ballot_waits() {
    let may = Permissions { may_begin: false, ..permissions(1_000) };
    let (writes, outcome) = Proposer::new(1, node_list(3), config()).writes(&with_restarted_member(0), &may);
    assert_eq!((writes.iter().flatten().count(), outcome), (0, Outcome::Waiting));
}

#[test]
fn a_server_that_does_not_reply_may_remember_unless_a_person_leaves_it_out() {
    let mut servers = with_restarted_member(0);
    servers[1].is_up = false;
    let absent = [NodeId(1)].into_iter().collect();
    let may = Permissions { absent, ..permissions(1_000) };
    assert_eq!(promises(&servers, &may), 0, "one remembers, one may");
    assert_eq!(promises(&servers, &Permissions { leaves_out_unreachable: true, ..may }), 2);
    let is_heard_of = Permissions { absent: NodeSet::EMPTY, leaves_out_unreachable: true, ..may };
    assert_eq!(promises(&servers, &is_heard_of), 0, "other clients reach it");
}

/// Two addresses have moved. A client is still connected to the servers before, which have not learned it.
#[test]
fn servers_whose_seats_others_took_do_not_recover_the_lock_cluster() {
    let first = first_roster(ClusterId::new(1), config());
    let moved = first.with_seat(1, Some(SeatId(20)), 1).with_seat(2, Some(SeatId(30)), 2);
    let (first, moved) = (Arc::new(first), Arc::new(moved));
    let view = |id: u64| {
        let roster = Some(if id == 1 { moved.clone() } else { first.clone() });
        record_view(Record { seat: SeatId(id), was_member: true, roster, promised: None, accepted: None })
    };
    let servers: Vec<ServerView> = (1..=3).map(view).collect();
    assert_eq!(promises(&servers, &permissions(1_000)), 0, "the others may remember");
    let may = Permissions { leaves_out_unreachable: true, ..permissions(1_000) };
    assert_eq!(promises(&servers, &may), 3);
}

#[test]
fn the_seat_of_a_server_that_is_absent_for_long_becomes_vacant() {
    let mut servers = with_restarted_member(0);
    (servers[2].is_up, servers[2].record) = (false, None);
    assert_eq!(promises(&servers, &permissions(1_000)), 0);
    let to_vacate = [NodeId(2)].into_iter().collect();
    assert_eq!(promises(&servers, &Permissions { to_vacate, ..permissions(1_000) }), 2);
}

/// How many writes a client with another list of nodes has.
fn writes_of_other_list() -> usize {
    let mut proposer = Proposer::new(1, NodeList::new(&["node 0", "node 1", "another"]), config());
    let (writes, _) = proposer.writes(&with_restarted_member(0), &permissions(1));
    writes.iter().flatten().count()
}

#[test]
fn a_client_with_another_list_begins_nothing() {
    assert_eq!(writes_of_other_list(), 0);
}

#[test]
fn mutant_any_list_adopts() {
    assert!(with(Some(Mutant::AnyListAdopts), writes_of_other_list) > 0);
}

/// The fence base after a restarted member took a seat.
fn fence_base_after_change() -> u64 {
    let mut servers = with_restarted_member(77);
    let mut proposer = Proposer::new(1, node_list(3), config());
    run(&mut proposer, &mut servers);
    let roster = proposer.current(&servers).expect("a roster");
    assert_eq!(roster.position(SeatId(9)), Some(2));
    roster.fence_base
}

#[test]
fn a_roster_says_the_largest_number_of_the_members_before() {
    assert_eq!(fence_base_after_change(), 77);
}

#[test]
fn mutant_no_fence_base() {
    assert_eq!(with(Some(Mutant::NoFenceBase), fence_base_after_change), 0);
}

/// The first two addresses lead to one server, and the third server does not reply.
fn with_one_server_twice(servers: &mut [ServerView]) {
    servers[1] = servers[0].clone();
    servers[2].is_up = false;
}

#[test]
fn a_member_behind_two_addresses_is_no_majority() {
    let to_vacate = [NodeId(2)].into_iter().collect();
    let may = Permissions { to_vacate, ..permissions(1_000) };
    let mut servers = with_restarted_member(0);
    servers[2].is_up = false;
    assert_eq!(promises(&servers, &may), 2);
    with_one_server_twice(&mut servers);
    assert_eq!(promises(&servers, &may), 0);
}

#[test]
fn a_server_behind_two_addresses_founds_no_lock_cluster() {
    let waiting = |id| {
        let (roster, promised, accepted) = (None, None, None);
        record_view(Record { seat: SeatId(id), was_member: false, roster, promised, accepted })
    };
    let mut servers: Vec<ServerView> = (1..=3).map(waiting).collect();
    servers[2].is_up = false;
    let may = Permissions { absent: [NodeId(2)].into_iter().collect(), ..permissions(1_000) };
    assert_eq!(promises(&servers, &may), 2);
    with_one_server_twice(&mut servers);
    assert_eq!(promises(&servers, &may), 0);
}

/// Carries out the writes of one client until it has none.
#[track_caller]
fn run(proposer: &mut Proposer, servers: &mut [ServerView]) {
    // Unlike the seats of these servers.
    for random in 1_000..1_100 {
        let (writes, _) = proposer.writes(servers, &permissions(random));
        if writes.iter().all(Option::is_none) {
            return;
        }
        for (server, write) in servers.iter_mut().zip(writes) {
            let Some(write) = write else { continue };
            server.record = Record::after(server.record.as_ref(), server.hint.as_ref(), &write);
            server.hint = None;
        }
    }
    panic!("still has writes: {servers:?}");
}

fn config() -> LockClusterConfig {
    LockClusterConfig::new(Quorum::new(3, None).expect("a quorum"), ms(1_000))
}

fn record_view(record: Record) -> ServerView {
    ServerView { is_up: true, is_fit: true, record: Some(record), ..ServerView::default() }
}

fn permissions(random: u64) -> Permissions {
    Permissions {
        now_millis: 0,
        absent: NodeSet::EMPTY,
        to_vacate: NodeSet::EMPTY,
        may_found: true,
        voting: NodeSet::EMPTY,
        is_settled: false,
        may_begin: true,
        leaves_out_unreachable: false,
        random,
    }
}
