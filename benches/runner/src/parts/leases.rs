//! Measures 10,000 held and renewed locks: the memory of each, and their effect on the throughput of other
//! locks.

use std::thread;
use std::time::Duration;

use quorlock_chaos::Server;

use super::throughput::throughput;
use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, start, with_peer_name};
use crate::metrics;
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for peer in bench.peers(Part::Leases) {
        let urls = bench.new_lock_cluster(5)?;
        let mut worker = start(&peer, Threads::All, &urls)?;
        let bytes = hold(&peer, &mut worker, LEASES, TTL)?;
        bench.store.record(metrics::LEASE_BYTES, &peer.name, bytes / LEASES as f64);
        if peer.takes_part_in(Part::Renewals) {
            measure_interference(bench, &peer, &mut worker)?;
            count_reads(bench, &peer, &urls)?;
        } else {
            release_all(&peer, &mut worker)?;
        }
        worker.end()?;
        bench.leftover_keys("leases", &[peer])?;
    }
    Ok(())
}

/// Measures the throughput of other locks with and without the leases, which `worker` holds already. In every
/// second round the measurement with leases comes last.
fn measure_interference(bench: &mut Bench, peer: &Peer, worker: &mut Process) -> Outcome<()> {
    let leases_last = bench.round % 2 == 1;
    let first = (!leases_last).then(|| throughput(peer, worker, 64, PERIOD)).transpose()?;
    release_all(peer, worker)?;
    let (without, _) = throughput(peer, worker, 64, PERIOD)?;
    let (with, _) = if let Some(first) = first {
        first
    } else {
        hold(peer, worker, LEASES, TTL)?;
        let last = throughput(peer, worker, 64, PERIOD)?;
        release_all(peer, worker)?;
        last
    };
    bench.store.record(metrics::WITH_LEASES, &peer.name, with);
    bench.store.record(metrics::WITHOUT_LEASES, &peer.name, without);
    Ok(())
}

/// Counts how often a node reads from its sockets for renewals that are due at the same time.
fn count_reads(bench: &mut Bench, peer: &Peer, urls: &[String]) -> Outcome<()> {
    let mut worker = start(peer, Threads::All, urls)?;
    hold(peer, &mut worker, metrics::SIMULTANEOUS_RENEWALS, SHORT_TTL)?;
    let node = &bench.fleet[bench.round % urls.len()];
    // The first two calls measure the reads of a call itself.
    let (first, _) = node_counters(node)?;
    let (second, renewed) = node_counters(node)?;
    thread::sleep(SHORT_TTL);
    let (third, renewed_later) = node_counters(node)?;
    let periods = (renewed_later - renewed) / metrics::SIMULTANEOUS_RENEWALS as f64;
    let reads = third - second - (second - first);
    bench.store.record(metrics::READS, &peer.name, reads / periods);
    release_all(peer, &mut worker)?;
    worker.end()
}

/// Acquires and keeps locks. Returns the growth of the worker's memory in bytes.
fn hold(peer: &Peer, worker: &mut Process, count: usize, ttl: Duration) -> Outcome<f64> {
    let reply = worker
        .request(&Request::Hold { count, ttl }, TIMEOUT)
        .map_err(|error| with_peer_name(peer, &error))?;
    let [bytes] = reply[..] else { return Err("the reply to hold must be one number".into()) };
    Ok(bytes)
}

fn release_all(peer: &Peer, worker: &mut Process) -> Outcome<()> {
    let reply =
        worker.request(&Request::ReleaseAll, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
    if reply[..] != [0.0] {
        eprintln!("{}: {reply:?} releases were not confirmed in time", peer.name);
    }
    Ok(())
}

/// The number of reads from clients, and the number of scripts run by the node.
fn node_counters(node: &Server) -> Outcome<(f64, f64)> {
    let info: String = node.command(&["INFO", "all"])?;
    let find = |field: &str| -> Outcome<f64> {
        let line = info.lines().find_map(|line| line.strip_prefix(field)).ok_or("unexpected INFO")?;
        Ok(line.split(',').next().unwrap_or_default().parse()?)
    };
    Ok((find("total_reads_processed:")?, find("cmdstat_evalsha:calls=")?))
}

const LEASES: usize = 10_000;
const TTL: Duration = Duration::from_secs(10);
/// All leases are renewed once in this time.
const PERIOD: Duration = Duration::from_millis(3400);
const SHORT_TTL: Duration = Duration::from_millis(1500);
