//! Keys that are nobody's: left behind by a program that is long gone, or of one that has nothing to do with the locks.

use std::thread;
use std::time::Duration;

use crate::redis::{Cmd, RedisResult, Value};
use crate::{Server, history};

/// Puts such a key under each of these names that is free at some moment of the next while: a lock's own key is never
/// replaced, for that would be a node that forgets.
pub(super) fn set(server: &Server, keys: &[String], life: Option<Duration>) -> RedisResult<()> {
    let mut connection = server.connect(PATIENCE)?;
    let mut missing: Vec<&String> = keys.iter().collect();
    let end = history::now() + TRIES.as_nanos() as u64;
    while !missing.is_empty() && history::now() < end {
        let mut held = Vec::new();
        for key in missing {
            let mut set = Cmd::new();
            set.arg("SET").arg(key).arg(NOBODYS).arg("NX");
            if let Some(life) = life {
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

/// Removes those that are left.
pub(super) fn remove(server: &Server, keys: &[String]) -> RedisResult<()> {
    let mut connection = server.connect(PATIENCE)?;
    for key in keys {
        let mut delete = Cmd::new();
        delete.arg("EVAL").arg(DELETE).arg(1).arg(key).arg(NOBODYS);
        delete.query::<i64>(&mut connection)?;
    }
    Ok(())
}

const NOBODYS: &str = "nobody's";
const DELETE: &str = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";
const PATIENCE: Duration = Duration::from_secs(5);
/// Locks go from hand to hand, and are free for a moment in between.
const TRIES: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(100);
