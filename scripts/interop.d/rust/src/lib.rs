//! Settings, clock and event writer of the clients in this package.

use std::env::var;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A client's settings, and its events: one line of JSON for each.
pub struct EventWriter {
    pub nodes: Vec<String>,
    pub lock: String,
    pub ttl_ms: u64,
    process: String,
    until: u64,
    attempt: u32,
}

impl EventWriter {
    pub fn new() -> Self {
        let seconds: f64 = setting("SECONDS").parse().expect("SECONDS is a number");
        Self {
            nodes: setting("NODES").split(',').map(str::to_owned).collect(),
            lock: setting("LOCK"),
            ttl_ms: setting("TTL_MS").parse().expect("TTL_MS is a number"),
            process: setting("PROCESS"),
            until: now() + (seconds * 1e9) as u64,
            attempt: 0,
        }
    }

    /// Begins an attempt: records that the client waits for the lock. Returns false when the time is over.
    pub fn begin_attempt(&mut self) -> bool {
        if now() >= self.until {
            self.write("\"finished\"");
            return false;
        }
        self.attempt += 1;
        let (lock, ttl_ms) = (&self.lock, self.ttl_ms);
        self.write(&format!(
            r#"{{"waiting":{{"keys":["{lock}"],"kind":"mutex","ttl_ms":{ttl_ms},"wait_ms":1000}}}}"#
        ));
        true
    }

    pub fn granted(&self, validity_ms: u64) {
        // One millisecond less, because the validity is rounded to milliseconds and was computed earlier.
        let deadline = now() + validity_ms.saturating_sub(1) * 1_000_000;
        self.write(&format!(
            r#"{{"granted":{{"deadline":{deadline},"fencing_number":null,"nonce":null,"spare_nodes":0}}}}"#
        ));
    }

    pub fn failed(&self, reason: &str) {
        self.write(&format!(r#"{{"failed":{{"reason":"{reason}"}}}}"#));
    }

    pub fn unexpected_error(&self, message: &str) {
        self.write(&format!(r#"{{"unexpected_error":{{"message":{message:?}}}}}"#));
    }

    pub fn releasing(&self) {
        self.write("\"releasing\"");
    }

    pub fn released(&self) {
        self.write(r#"{"released":{"confirmed":true}}"#);
    }

    fn write(&self, kind: &str) {
        let actor = format!(r#"{{"client":{{"process":{},"task":0,"attempt":{}}}}}"#, self.process, self.attempt);
        println!(r#"{{"at":{},"actor":{actor},"kind":{kind}}}"#, now());
    }
}

impl Default for EventWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// A pseudorandom duration below this limit, from the last digits of the clock.
pub fn random_below(below_ms: u64) -> Duration {
    Duration::from_millis(now() % below_ms)
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn setting(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} must be set"))
}
