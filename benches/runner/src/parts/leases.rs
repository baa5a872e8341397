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
    let peers = bench.peers(Part::Leases);
    for peer in &peers {
        let urls = bench.fresh(5)?;
        let mut worker = start(peer, Threads::All, &urls)?;
        let hold = Request::Hold { count: LEASES, ttl: TTL };
        let figures = worker.ask(&hold, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        let [bytes] = figures[..] else { return Err("hold has one figure".into()) };
        bench.book.put(rows::LEASE_BYTES, &peer.name, bytes / LEASES as f64);
        if peer.takes_part_in(Part::Renewals) {
            let (with, _) = rush(peer, &mut worker, 64, PERIOD)?;
            free(peer, &mut worker)?;
            let (without, _) = rush(peer, &mut worker, 64, PERIOD)?;
            bench.book.put(rows::WITH_LEASES, &peer.name, with);
            bench.book.put(rows::WITHOUT_LEASES, &peer.name, without);
            worker.end()?;
            batches(bench, peer, &urls)?;
        } else {
            free(peer, &mut worker)?;
            worker.end()?;
        }
    }
    // The keys of the last one; those of the others were wiped with the servers.
    bench.left_over("leases", peers.last().map_or(&[], std::slice::from_ref))
}

/// How often a node has to read for the renewals that are due at one instant.
fn batches(bench: &mut Bench, peer: &Peer, urls: &[String]) -> Outcome<()> {
    let mut worker = start(peer, Threads::All, urls)?;
    let hold = Request::Hold { count: rows::AT_ONE_INSTANT, ttl: SHORT_TTL };
    worker.ask(&hold, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
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

fn free(peer: &Peer, worker: &mut Process) -> Outcome<()> {
    let figures = worker.ask(&Request::Free, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
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
