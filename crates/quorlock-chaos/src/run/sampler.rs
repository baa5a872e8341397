//! Samples the owners and fences of the locks' keys on each node, bypassing all proxies.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quorlock::inspect::OwnerHash;
use redis::{Client, Connection, RedisResult};
use tokio::sync::watch;

use super::log::EventLog;
use super::stop_signal::StopSignal;
use crate::history::{self, EventKind, KeySample};

/// One thread per node that samples the keys several times per second and records them. The threads end with
/// this value.
///
/// A node that does not reply gives no sample, because its keys are unknown then.
pub(super) struct Sampler {
    stop: Arc<StopSignal>,
    threads: Vec<JoinHandle<()>>,
}

impl Sampler {
    /// Starts to sample these keys on each of these nodes.
    pub(super) fn start(
        urls: Vec<watch::Receiver<String>>,
        keys: &[String],
        log: &Arc<EventLog>,
    ) -> io::Result<Self> {
        let stop = Arc::new(StopSignal::default());
        let mut sampler = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        for (node, url) in urls.into_iter().enumerate() {
            let (keys, log, stop) = (keys.to_vec(), Arc::clone(log), Arc::clone(&stop));
            let thread = thread::Builder::new().name(format!("sampler {node}"));
            sampler.threads.push(thread.spawn(move || sample_until_stopped(node, url, &keys, &log, &stop))?);
        }
        Ok(sampler)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A panic was reported on stderr, and the checker detects the missing samples.
            let _ = thread.join();
        }
    }
}

fn sample_until_stopped(
    node: usize,
    mut url: watch::Receiver<String>,
    keys: &[String],
    log: &EventLog,
    stop: &StopSignal,
) {
    let mut connection = None;
    while !stop.is_set() {
        let requested_at = history::now();
        // The node's address has moved.
        if url.has_changed().unwrap_or(false) {
            connection = None;
        }
        let address = url.borrow_and_update().clone();
        match sample(&mut connection, &address, keys) {
            Ok(keys) => log.record(EventKind::Sampled { node, requested_at, keys }),
            // The node is down, paused, or loading its data. A late reply must not be read as the reply to
            // the next request, so the connection is closed.
            Err(_) => connection = None,
        }
        stop.sleep(INTERVAL);
    }
}

/// Reads all keys at one moment, with one atomic command.
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
    let samples = keys.iter().zip(owners.iter().zip(fences)).filter_map(|(key, (owner, fence))| {
        // Records the hash, because a reader of the history could release the lock with the owner token.
        let owner = owner.as_deref().map(|token| OwnerHash::of(token).to_string());
        let fence = fence.as_deref().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        (owner.is_some() || fence.is_some()).then(|| (key.clone(), KeySample { owner, fence }))
    });
    Ok(samples.collect())
}

fn connect(url: &str) -> RedisResult<Connection> {
    let connection = Client::open(url)?.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// At least five samples per ttl, so that every key on a node is sampled.
const INTERVAL: Duration = Duration::from_millis(150);
const TIMEOUT: Duration = Duration::from_millis(500);
const FENCE_PREFIX: &str = "quorlock:fence:";
