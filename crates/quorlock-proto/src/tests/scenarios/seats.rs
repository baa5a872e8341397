//! Seats: lost and taken again, and the settings that count when one changes hands.

use std::sync::Arc;

use super::helpers::{connect_to_all, is_voting, marker, reconfigure, record, set_marker};
use crate::marker::Marker;
use crate::roster::record::Record;
use crate::roster::{Roster, SeatId};
use crate::test_util::node::{Data, DataKey, DataValue, EPOCH};
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};

/// A client had an old reading of a restarted node, and gave its seat to a server that is no more.
#[test]
fn a_node_whose_seat_went_to_a_server_that_is_no_more_draws_another() {
    let mut world = World::fenced(3);
    (0..3).for_each(|node| world.disconnect(ALICE, node));
    let first = record(&world, 0).and_then(|record| record.roster).expect("a roster");
    let gone = Arc::new(first.with_seat(2, Some(SeatId(99)), 1));
    (0..2).for_each(|node| set_roster(&mut world, node, &gone));
    connect_to_all(&mut world, ALICE);
    assert_eq!(world.clients[ALICE].redials, [2], "another server may have its address now");
    world.connect(ALICE, 2);
    world.deliver_all();
    world.run_for(MAX_TTL * 3);
    assert!(is_voting(&world, ALICE, 2) && is_voting(&world, BOB, 2));
    assert_ne!(marker(&world, 2).map(|marker| marker.seat), Some(SeatId(3)), "a lost seat never returns");
}

#[test]
fn a_client_with_a_shorter_max_ttl_shortens_no_probation() {
    let mut world = World::fenced(3);
    for node in 0..3 {
        world.disconnect(ALICE, node);
        world.disconnect(BOB, node);
    }
    let quorum = world.quorum();
    reconfigure(&mut world, BOB, quorum, ms(1_000), true);
    world.restart(2, Data::new());
    connect_to_all(&mut world, BOB);
    world.run_for(ms(500));
    let written = marker(&world, 2).filter(|it| it.was_member).expect("Bob has given it a seat");
    // The world begins at 5 s.
    assert!(written.time_micros > EPOCH / 1000 + 5_000_000 + MAX_TTL.as_micros() as u64, "{written:?}");
    // In its probation it keeps its seat.
    world.run_for(ms(5_000));
    assert_eq!(marker(&world, 2).map(|it| it.seat), Some(written.seat));
}

/// Makes the node tell that this roster is in force.
fn set_roster(world: &mut World, node: usize, roster: &Arc<Roster>) {
    let record = Record { roster: Some(roster.clone()), ..record(world, node).expect("a record") };
    let incarnation = world.servers[node].node.incarnation();
    set_marker(
        world,
        node,
        &format!("{} {} 1 1 0", Marker::identity(MAX_TTL, &record), incarnation.as_str()),
    );
    let entry = DataValue { value: Some(record.to_text().into()), expires: None };
    world.servers[node].node.data_mut().insert(DataKey::Record, entry);
}
