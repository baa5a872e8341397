//! The proposer against servers that carry out its writes at once.

use std::sync::Arc;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::quorum::{NodeSet, Quorum};
use crate::roster::proposer::{Permissions, Proposer, ServerView};
use crate::roster::record::{Ballot, Record};
use crate::roster::{Epoch, SeatId};
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

/// Carries out the writes of one client until it has none.
#[track_caller]
fn run(proposer: &mut Proposer, servers: &mut [ServerView]) {
    for random in 1..100 {
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
        may_begin: true,
        random,
    }
}
