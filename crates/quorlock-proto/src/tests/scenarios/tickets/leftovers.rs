//! Keys of the previous owner on nodes that took no part in an adoption.

use super::{adopt, handed_over, worlds};
use crate::tests::world::{ALICE, BOB};

/// A key that is left blocks the next holder for a ttl, once another node is down.
#[test]
fn no_key_of_the_previous_owner_is_left() {
    for mut world in worlds(3) {
        // The holder's request to node 2 arrives after the adoption's.
        let lock = world.start_acquire(ALICE);
        assert!(world.round_trip(ALICE, 0) && world.round_trip(ALICE, 1));
        let previous = world.hand_over(ALICE, lock).expect("held").owner;
        let adopted = world.start_adoption(BOB, previous);
        assert!((0..3).all(|node| world.round_trip(BOB, node)));
        assert!(world.is_valid(BOB, adopted));
        while world.deliver_request(BOB, 2) {}
        world.deliver_all();
        assert!(!world.has_key_of(2, lock) && world.pending_releases(ALICE) == 0);
    }
    for mut world in worlds(3) {
        // The adopter reaches node 2 only later.
        let (lock, previous) = handed_over(&mut world);
        world.disconnect(BOB, 2);
        let adopted = adopt(&mut world, previous).expect("a quorum of its keys is there");
        assert!(world.is_valid(BOB, adopted) && world.has_key_of(2, lock));
        world.connect(BOB, 2);
        world.deliver_all();
        assert!(!world.has_key_of(2, lock) && world.pending_releases(BOB) == 0);
    }
}
