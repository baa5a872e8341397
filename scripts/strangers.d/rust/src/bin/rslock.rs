//! rslock: takes and frees one lock again and again, and tells each step as a line of history.

use std::time::Duration;

use rslock::{LockError, LockManager};
use strangers::{Teller, some};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut teller = Teller::new();
    let mut manager = LockManager::new(teller.nodes.clone());
    // A delay of nothing would make it panic.
    manager.set_retry(1, Duration::from_millis(10));
    while teller.asks() {
        match manager.lock(teller.lock.as_bytes(), Duration::from_millis(teller.ttl_ms)).await {
            Ok(held) => {
                teller.granted(held.validity_time as u64);
                sleep(some(30)).await;
                teller.releasing();
                manager.unlock(&held).await;
                teller.released();
            }
            Err(LockError::Unavailable) => teller.refused("held"),
            Err(LockError::TtlExceeded) => teller.refused("expired"),
            Err(error) => teller.errored(&error.to_string()),
        }
        sleep(some(40)).await;
    }
}
