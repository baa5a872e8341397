//! Samples the owners of the locks' keys on each node, bypassing all proxies.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quorlock::OwnerHash;
use redis::{Client, Connection, RedisResult};

use super::log::EventLog;
use super::stop_signal::StopSignal;
use crate::history::{self, EventKind, KeySample};

/// A thread for each node that samples the keys several times a second and records them. The threads end with this
/// value.
///
/// A node that does not reply is not recorded, because its keys are unknown then.
pub(super) struct Sampler {
    stop: Arc<StopSignal>,
    threads: Vec<JoinHandle<()>>,
}

impl Sampler {
    /// Samples these keys on each of these servers, from now on.
    pub(super) fn start(urls: Vec<String>, keys: &[String], log: &Arc<EventLog>) -> io::Result<Self> {
        let halt = Arc::new(StopSignal::default());
        let mut sampler = Self { stop: Arc::clone(&halt), threads: Vec::new() };
        for (node, url) in urls.into_iter().enumerate() {
            let (keys, log, halt) = (keys.to_vec(), Arc::clone(log), Arc::clone(&halt));
            let thread = thread::Builder::new().name(format!("sampler {node}"));
            sampler.threads.push(thread.spawn(move || watch(node, &url, &keys, &log, &halt))?);
        }
        Ok(sampler)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it, and the checker notices the missing samples.
            let _ = thread.join();
        }
    }
}

fn watch(node: usize, url: &str, keys: &[String], log: &EventLog, halt: &StopSignal) {
    let mut connection = None;
    while !halt.is_set() {
        let asked = history::now();
        match sample(&mut connection, url, keys) {
            Ok(keys) => log.record(EventKind::Sampled { node, requested_at: asked, keys }),
            // It is down, stopped, or loading its data. A late reply must not be taken for the next one's.
            Err(_) => connection = None,
        }
        halt.sleep(INTERVAL);
    }
}

/// Reads all keys at one moment: a command is atomic.
fn sample(
    connection: &mut Option<Connection>,
    url: &str,
    keys: &[String],
) -> RedisResult<BTreeMap<String, KeySample>> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(connect(url)?),
    };
    let mut get = redis::cmd("MGET");
    get.arg(keys).arg(keys.iter().map(|key| format!("{FENCE_PREFIX}{key}")).collect::<Vec<_>>());
    let values: Vec<Option<Vec<u8>>> = get.query(connection)?;
    let (owners, fences) = values.split_at(keys.len().min(values.len()));
    let seen = keys.iter().zip(owners.iter().zip(fences)).filter_map(|(key, (owner, fence))| {
        // Never the owner token itself: a reader who knows it can release the lock.
        let owner = owner.as_deref().map(|token| OwnerHash::of(token).to_string());
        let fence = fence.as_deref().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        (owner.is_some() || fence.is_some()).then(|| (key.clone(), KeySample { owner, fence }))
    });
    Ok(seen.collect())
}

fn connect(url: &str) -> RedisResult<Connection> {
    let connection = Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// At least five samples per ttl, so that a key that was on a node is seen there.
const INTERVAL: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_millis(500);
const FENCE_PREFIX: &str = "quorlock:fence:";
