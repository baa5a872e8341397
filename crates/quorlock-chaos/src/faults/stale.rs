//! Stale keys under the names of locks, as if left by a dead or an unrelated program.

use std::thread;
use std::time::Duration;

use crate::redis::{Cmd, RedisResult, Value};
use crate::{Server, history};

/// Sets a stale key under each of these names that becomes free within 0.5 s. A lock's own key is never
/// replaced, because that would be data loss.
pub(super) fn set(server: &Server, keys: &[String], ttl: Option<Duration>) -> RedisResult<()> {
    let mut connection = server.connect(TIMEOUT)?;
    let mut missing: Vec<&String> = keys.iter().collect();
    let end = history::now() + MAX_WAIT.as_nanos() as u64;
    while !missing.is_empty() && history::now() < end {
        let mut held = Vec::new();
        for key in missing {
            let mut set = Cmd::new();
            set.arg("SET").arg(key).arg(STALE_VALUE).arg("NX");
            if let Some(ttl) = ttl {
                set.arg("PX").arg(ttl.as_millis() as u64);
            }
            if set.query::<Value>(&mut connection)? == Value::Nil {
                held.push(key);
            }
        }
        missing = held;
        thread::sleep(RETRY_INTERVAL);
    }
    Ok(())
}

/// Removes the remaining stale keys.
pub(super) fn remove(server: &Server, keys: &[String]) -> RedisResult<()> {
    let mut connection = server.connect(TIMEOUT)?;
    for key in keys {
        let mut delete = Cmd::new();
        delete.arg("EVAL").arg(DELETE).arg(1).arg(key).arg(STALE_VALUE);
        delete.query::<i64>(&mut connection)?;
    }
    Ok(())
}

const STALE_VALUE: &str = "stale";
const DELETE: &str = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Locks are free for a moment between two holders.
const MAX_WAIT: Duration = Duration::from_millis(500);
const RETRY_INTERVAL: Duration = Duration::from_micros(100);
