//! redlock: acquires and releases one lock in a loop, and writes each step as an event of the history.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;

use redlock::RedLock;
use interop::{EventWriter, random_below};

fn main() {
    let mut events = EventWriter::new();
    let mut redlock = RedLock::new(events.nodes.clone());
    redlock.set_retry(1, 10);
    while events.begin_attempt() {
        // It panics if a node delays it for longer than the ttl, because a subtraction overflows. Without overflow checks
        // it would return a lock with an enormous validity.
        let attempt = AssertUnwindSafe(|| redlock.lock(events.lock.as_bytes(), events.ttl_ms as usize));
        match catch_unwind(attempt) {
            Ok(Ok(Some(held))) => {
                events.granted(held.validity_time as u64);
                sleep(random_below(30));
                events.releasing();
                redlock.unlock(&held);
                events.released();
            }
            Ok(Ok(None)) => events.failed("contended"),
            // One failing node is enough, and the keys set before stay.
            Ok(Err(error)) => events.unexpected_error(&error.to_string()),
            Err(_) => events.unexpected_error("panicked"),
        }
        sleep(random_below(40));
    }
}
