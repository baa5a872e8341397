//! Stale keys: left by a program that has ended, or by an unrelated one.

use std::thread;
use std::time::Duration;

use crate::redis::{Cmd, RedisResult, Value};
use crate::{Server, history};

/// Sets a stale key under each of these names that becomes free within a short time. A lock's own key is never
/// replaced, because that would be data loss.
pub(super) fn set(server: &Server, keys: &[String], ttl: Option<Duration>) -> RedisResult<()> {
    let mut connection = server.connect(PATIENCE)?;
    let mut missing: Vec<&String> = keys.iter().collect();
    let end = history::now() + TRIES.as_nanos() as u64;
    while !missing.is_empty() && history::now() < end {
        let mut held = Vec::new();
        for key in missing {
            let mut set = Cmd::new();
            set.arg("SET").arg(key).arg(STALE_VALUE).arg("NX");
            if let Some(life) = ttl {
                set.arg("PX").arg(life.as_millis() as u64);
            }
            if set.query::<Value>(&mut connection)? == Value::Nil {
                held.push(key);
            }
        }
        missing = held;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Removes the remaining stale keys.
pub(super) fn remove(server: &Server, keys: &[String]) -> RedisResult<()> {
    let mut connection = server.connect(PATIENCE)?;
    for key in keys {
        let mut delete = Cmd::new();
        delete.arg("EVAL").arg(DELETE).arg(1).arg(key).arg(STALE_VALUE);
        delete.query::<i64>(&mut connection)?;
    }
    Ok(())
}

const STALE_VALUE: &str = "stale";
const DELETE: &str = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";
const PATIENCE: Duration = Duration::from_secs(5);
/// Locks pass from client to client and are free for a moment in between.
const TRIES: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(100);
