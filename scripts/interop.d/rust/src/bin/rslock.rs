//! rslock: acquires and releases one lock in a loop, and writes each step as an event of the history.

use std::time::Duration;

use rslock::{LockError, LockManager};
use interop::{EventWriter, random_below};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut events = EventWriter::new();
    let mut manager = LockManager::new(events.nodes.clone());
    // A delay of zero would make it panic.
    manager.set_retry(1, Duration::from_millis(10));
    while events.begin_attempt() {
        match manager.lock(events.lock.as_bytes(), Duration::from_millis(events.ttl_ms)).await {
            Ok(held) => {
                events.granted(held.validity_time as u64);
                sleep(random_below(30)).await;
                events.releasing();
                manager.unlock(&held).await;
                events.released();
            }
            Err(LockError::Unavailable) => events.failed("contended"),
            Err(LockError::TtlExceeded) => events.failed("too_late"),
            Err(error) => events.unexpected_error(&error.to_string()),
        }
        sleep(random_below(40)).await;
    }
}
