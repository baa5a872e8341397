//! redlock: takes and frees one lock again and again, and tells each step as a line of history.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;

use redlock::RedLock;
use strangers::{Teller, some};

fn main() {
    let mut teller = Teller::new();
    let mut redlock = RedLock::new(teller.nodes.clone());
    redlock.set_retry(1, 10);
    while teller.asks() {
        // It panics where a node kept it waiting for longer than the ttl: a subtraction below zero. Without overflow
        // checks it would then say that its lock is good for as long as there are numbers.
        let asked = AssertUnwindSafe(|| redlock.lock(teller.lock.as_bytes(), teller.ttl_ms as usize));
        match catch_unwind(asked) {
            Ok(Ok(Some(held))) => {
                teller.granted(held.validity_time as u64);
                sleep(some(30));
                teller.releasing();
                redlock.unlock(&held);
                teller.released();
            }
            Ok(Ok(None)) => teller.refused("held"),
            // One node that refuses is enough, and what it had taken by then stays.
            Ok(Err(error)) => teller.errored(&error.to_string()),
            Err(_) => teller.errored("panicked"),
        }
        sleep(some(40));
    }
}
