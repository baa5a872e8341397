//! rslock: takes and frees one lock again and again, and tells each step as a line of history.

use std::env::var;
use std::time::Duration;

use rslock::{LockError, LockManager};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn told(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} must be set"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (process, lock) = (told("PROCESS"), told("LOCK"));
    let ttl_ms: u64 = told("TTL_MS").parse().expect("TTL_MS is a number");
    let seconds: f64 = told("SECONDS").parse().expect("SECONDS is a number");
    let tell = |turn: u32, what: &str| {
        let who = format!(r#"{{"client":{{"process":{process},"task":0,"turn":{turn}}}}}"#);
        println!(r#"{{"at":{},"who":{who},"what":{what}}}"#, now());
    };
    let mut manager = LockManager::new(told("NODES").split(',').map(str::to_owned).collect());
    manager.set_retry(1, Duration::from_millis(10));
    let until = now() + (seconds * 1e9) as u64;
    let mut turn = 0;
    while now() < until {
        turn += 1;
        tell(
            turn,
            &format!(
                r#"{{"waiting":{{"keys":["{lock}"],"kind":"mutex","ttl_ms":{ttl_ms},"wait_ms":1000}}}}"#
            ),
        );
        match manager.lock(lock.as_bytes(), Duration::from_millis(ttl_ms)).await {
            Ok(held) => {
                let deadline = now() + (held.validity_time as u64).saturating_sub(1) * 1_000_000;
                tell(
                    turn,
                    &format!(
                        r#"{{"granted":{{"deadline":{deadline},"number":null,"nonce":null,"margin":0}}}}"#
                    ),
                );
                sleep(Duration::from_millis(now() % 30)).await;
                tell(turn, "\"releasing\"");
                manager.unlock(&held).await;
                tell(turn, r#"{"released":{"confirmed":true}}"#);
            }
            Err(LockError::Unavailable) => tell(turn, r#"{"refused":{"why":"held"}}"#),
            Err(LockError::TtlExceeded) => tell(turn, r#"{"refused":{"why":"expired"}}"#),
            Err(error) => tell(turn, &format!(r#"{{"errored":{{"words":{:?}}}}}"#, error.to_string())),
        }
        sleep(Duration::from_millis(now() % 40)).await;
    }
    tell(turn, "\"finished\"");
}
