//! Absence reports: who sets, keeps, clears and drops them.

use super::founding_and_recovery::REPORT_DELAY_MILLIS;
use super::helpers::{MARKER_READ_INTERVAL, SETTLING, absences, epoch, restart_client, roster};
use crate::quorum::NodeId;
use crate::roster::absence::Absences;
use crate::roster::{NodeList, SeatId};
use crate::test_util::founding::node_list;
use crate::test_util::node::{DataKey, DataValue};
use crate::tests::world::{ALICE, BOB, MAX_TTL, World, ms};

#[test]
fn absence_reports_are_set_kept_and_cleared() {
    let mut world = World::fenced(3);
    (0..2).for_each(|client| world.disconnect(client, 2));
    world.run_for(ms(REPORT_DELAY_MILLIS - 100));
    assert_eq!(
        (absences(&world, 0), absences(&world, 1)),
        (None, None),
        "a short interruption is no absence"
    );
    world.run_for(MARKER_READ_INTERVAL);
    let reports = [absences(&world, 0), absences(&world, 1)];
    let duration = |world: &World, node: usize, of: u8| {
        let text = absences(world, node).unwrap_or_default();
        let micros = world.servers[node].node.clock_micros(world.now(ALICE).boot_nanos());
        Absences::parse(&text).duration(&node_list(3), NodeId(of), micros)
    };
    assert!(duration(&world, 0, 2) > ms(5_000) && duration(&world, 0, 1).is_zero());
    // Other clients that do not reach it keep the reports.
    restart_client(&mut world, ALICE, 0..2);
    restart_client(&mut world, BOB, 0..2);
    world.run_for(MAX_TTL);
    assert_eq!([absences(&world, 0), absences(&world, 1)], reports);
    // One that reaches it clears them.
    world.connect(BOB, 2);
    world.disconnect(ALICE, 0);
    world.disconnect(ALICE, 1);
    world.run_for(MARKER_READ_INTERVAL);
    assert!(duration(&world, 0, 2).is_zero() && duration(&world, 1, 2).is_zero());
}

#[test]
fn absence_reports_of_clients_with_another_list_are_dropped() {
    let mut world = World::fenced(3);
    let other = NodeList::new(&["node 0", "node 1", "node 9"]);
    for node in 0..2 {
        let text = format!("{:016x} 2:1", other.hash().0);
        let entry = DataValue { value: Some(text.into()), expires: None };
        world.servers[node].node.data_mut().insert(DataKey::Absences, entry);
    }
    (0..2).for_each(|client| world.disconnect(client, 2));
    world.run_for(MAX_TTL);
    assert_eq!(epoch(&world, 0), "1.0", "by them it was absent since 1970, and its seat would be vacant");
    let ours = format!("{:016x} 2:", node_list(3).hash().0);
    let since = absences(&world, 0).and_then(|it| it.strip_prefix(&ours)?.parse::<u64>().ok()).expect("ours");
    let clock = world.servers[0].node.clock_micros(world.now(ALICE).boot_nanos());
    assert!(clock - since <= MAX_TTL.as_micros() as u64, "since its own report");
    assert!(roster(&world, 0).is_some_and(|it| it.has(SeatId(3))));
}

/// It is dialed twice a second.
#[test]
fn a_failed_dial_does_not_begin_an_absence_again() {
    let mut world = World::fenced(3);
    (0..2).for_each(|client| world.disconnect(client, 2));
    for _ in 0..20 {
        world.run_for(ms(500));
        (0..2).for_each(|client| world.disconnect(client, 2));
    }
    assert!(absences(&world, 0).is_some_and(|it| it.contains(" 2:")));
}

/// What a client shows is an upper bound, and not by much.
#[test]
fn a_client_knows_by_when_the_seat_of_an_absent_node_becomes_vacant() {
    let mut world = World::fenced(3);
    let vacated_by = |world: &World| world.clients[ALICE].coordinator.seat_vacated_by(NodeId(2));
    assert_eq!(vacated_by(&world), None, "it replies");
    (0..2).for_each(|client| world.disconnect(client, 2));
    assert_eq!(vacated_by(&world), None, "no node has a report of it");
    world.run_for(ms(REPORT_DELAY_MILLIS) + MARKER_READ_INTERVAL);
    let by = vacated_by(&world).expect("its absence is reported");
    assert_eq!(world.clients[ALICE].coordinator.seat_vacated_by(NodeId(0)), None);
    let is_vacant = |world: &World| roster(world, 0).is_some_and(|it| !it.has(SeatId(3)));
    world.run_for(by.since(world.now(ALICE)) - MARKER_READ_INTERVAL - ms(100));
    assert!(!is_vacant(&world) && vacated_by(&world).is_some());
    world.run_for(MARKER_READ_INTERVAL + ms(100) + SETTLING);
    assert!(is_vacant(&world));
    assert_eq!(vacated_by(&world), None, "it is vacant");
}
