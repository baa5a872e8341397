//! 10,000 locks held and renewed: what each costs, and what the callers of other locks notice.

use std::thread;
use std::time::Duration;

use quorlock_chaos::Server;

use super::rush::rush;
use crate::Outcome;
use crate::bench::{Bench, PATIENCE, named, start};
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::rows;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for peer in bench.peers(Part::Leases) {
        let urls = bench.fresh(5)?;
        let mut worker = start(&peer, Threads::All, &urls)?;
        let bytes = hold(&peer, &mut worker, LEASES, TTL)?;
        bench.book.put(rows::LEASE_BYTES, &peer.name, bytes / LEASES as f64);
        if peer.takes_part_in(Part::Renewals) {
            beside(bench, &peer, &mut worker)?;
            batches(bench, &peer, &urls)?;
        } else {
            free(&peer, &mut worker)?;
        }
        worker.end()?;
        bench.left_over("leases", &[peer])?;
    }
    Ok(())
}

/// What the callers of other locks notice; `worker` has its leases already. In every other round they come last.
fn beside(bench: &mut Bench, peer: &Peer, worker: &mut Process) -> Outcome<()> {
    let comes_last = bench.round % 2 == 1;
    let first = (!comes_last).then(|| rush(peer, worker, 64, PERIOD)).transpose()?;
    free(peer, worker)?;
    let (without, _) = rush(peer, worker, 64, PERIOD)?;
    let (with, _) = if let Some(first) = first {
        first
    } else {
        hold(peer, worker, LEASES, TTL)?;
        let last = rush(peer, worker, 64, PERIOD)?;
        free(peer, worker)?;
        last
    };
    bench.book.put(rows::WITH_LEASES, &peer.name, with);
    bench.book.put(rows::WITHOUT_LEASES, &peer.name, without);
    Ok(())
}

/// How often a node has to read for the renewals that are due at one instant.
fn batches(bench: &mut Bench, peer: &Peer, urls: &[String]) -> Outcome<()> {
    let mut worker = start(peer, Threads::All, urls)?;
    hold(peer, &mut worker, rows::AT_ONE_INSTANT, SHORT_TTL)?;
    let node = &bench.fleet[bench.round % urls.len()];
    // What looking costs is looked at first.
    let (first, _) = traffic(node)?;
    let (second, renewed) = traffic(node)?;
    thread::sleep(SHORT_TTL);
    let (third, renewed_by_now) = traffic(node)?;
    let instants = (renewed_by_now - renewed) / rows::AT_ONE_INSTANT as f64;
    let reads = third - second - (second - first);
    bench.book.put(rows::READS, &peer.name, reads / instants);
    free(peer, &mut worker)?;
    worker.end()
}

/// How many bytes larger the worker is for it.
fn hold(peer: &Peer, worker: &mut Process, count: usize, ttl: Duration) -> Outcome<f64> {
    let figures =
        worker.request(&Request::Hold { count, ttl }, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
    let [bytes] = figures[..] else { return Err("hold has one figure".into()) };
    Ok(bytes)
}

fn free(peer: &Peer, worker: &mut Process) -> Outcome<()> {
    let figures = worker.request(&Request::Free, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
    if figures[..] != [0.0] {
        eprintln!("{}: {figures:?} releases were not confirmed in time", peer.name);
    }
    Ok(())
}

/// How often the node has read from its clients, and how many scripts it has run.
fn traffic(node: &Server) -> Outcome<(f64, f64)> {
    let info: String = node.command(&["INFO", "all"])?;
    let find = |start: &str| -> Outcome<f64> {
        let line = info.lines().find_map(|line| line.strip_prefix(start)).ok_or("an odd INFO")?;
        Ok(line.split(',').next().unwrap_or_default().parse()?)
    };
    Ok((find("total_reads_processed:")?, find("cmdstat_evalsha:calls=")?))
}

const LEASES: usize = 10_000;
const TTL: Duration = Duration::from_secs(10);
/// All are renewed once in that time.
const PERIOD: Duration = Duration::from_millis(3400);
const SHORT_TTL: Duration = Duration::from_millis(1500);
