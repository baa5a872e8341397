//! A node that was temporarily a replica of another server.

use super::helpers::SETTLING;
use crate::attempt::FailureReason;
use crate::tests::world::{ALICE, BOB, MAX_TTL, World};

/// The scripts compare only the marker, and the restored copy has the expected marker. The node's replication
/// id reveals the change; each marker reading includes it.
#[test]
fn a_role_change_that_restores_an_old_copy_is_detected_by_the_next_marker_reading() {
    let mut world = World::fenced(1);
    let copy = world.servers[0].node.data().clone();
    world.acquire(ALICE);
    world.servers[0].node.change_role(copy);
    world.run_timers_for(MAX_TTL / 4);
    world.run_for(SETTLING);
    world.take_events(BOB);
    world.start_acquire(BOB);
    world.deliver_all();
    let failure = world.take_failure(BOB).expect("the node may have lost the lock");
    assert!(matches!(failure.reason, FailureReason::OnProbation { retry_after: Some(_) }), "{failure:?}");
}
