//! What the holders of this package share: what they are told, the time, and how a history is written.

use std::env::var;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A holder's terms and its voice: one line of JSON for each step.
pub struct Teller {
    pub nodes: Vec<String>,
    pub lock: String,
    pub ttl_ms: u64,
    process: String,
    until: u64,
    turn: u32,
}

impl Teller {
    pub fn new() -> Self {
        let seconds: f64 = told("SECONDS").parse().expect("SECONDS is a number");
        Self {
            nodes: told("NODES").split(',').map(str::to_owned).collect(),
            lock: told("LOCK"),
            ttl_ms: told("TTL_MS").parse().expect("TTL_MS is a number"),
            process: told("PROCESS"),
            until: now() + (seconds * 1e9) as u64,
            turn: 0,
        }
    }

    /// Tells that it asks for the lock; false when the time is over.
    pub fn asks(&mut self) -> bool {
        if now() >= self.until {
            self.tell("\"finished\"");
            return false;
        }
        self.turn += 1;
        let (lock, ttl_ms) = (&self.lock, self.ttl_ms);
        self.tell(&format!(
            r#"{{"waiting":{{"keys":["{lock}"],"kind":"mutex","ttl_ms":{ttl_ms},"wait_ms":1000}}}}"#
        ));
        true
    }

    pub fn granted(&self, validity_ms: u64) {
        // A millisecond less: it is rounded to one, and was counted a moment ago.
        let deadline = now() + validity_ms.saturating_sub(1) * 1_000_000;
        self.tell(&format!(
            r#"{{"granted":{{"deadline":{deadline},"number":null,"nonce":null,"margin":0}}}}"#
        ));
    }

    pub fn refused(&self, why: &str) {
        self.tell(&format!(r#"{{"refused":{{"why":"{why}"}}}}"#));
    }

    pub fn errored(&self, words: &str) {
        self.tell(&format!(r#"{{"errored":{{"words":{words:?}}}}}"#));
    }

    pub fn releasing(&self) {
        self.tell("\"releasing\"");
    }

    pub fn released(&self) {
        self.tell(r#"{"released":{"confirmed":true}}"#);
    }

    fn tell(&self, what: &str) {
        let who = format!(r#"{{"client":{{"process":{},"task":0,"attempt":{}}}}}"#, self.process, self.turn);
        println!(r#"{{"at":{},"actor":{who},"kind":{what}}}"#, now());
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self::new()
    }
}

/// Some time below that, by the clock's last digits.
pub fn some(below_ms: u64) -> Duration {
    Duration::from_millis(now() % below_ms)
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn told(name: &str) -> String {
    var(name).unwrap_or_else(|_| panic!("{name} must be set"))
}
