//! Measures clients while one of five nodes is dead or paused. Clients connect before the fault or during it.

use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Fleet};

use super::throughput::throughput;
use crate::Outcome;
use crate::bench::{Bench, SETTLE, TIMEOUT, Timings, start, start_all, with_peer_name};
use crate::metrics;
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::stats::percentile;
use crate::worker::{Request, Threads};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Dead,
    Paused,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Paused => "paused",
        }
    }

    fn inject(self, fleet: &mut Fleet, node: usize) {
        match self {
            Self::Dead => fleet[node].kill(),
            Self::Paused => fleet[node].pause(),
        }
    }

    fn repair(self, fleet: &mut Fleet, node: usize) -> Outcome<()> {
        match self {
            Self::Dead => fleet[node].restart(Data::Empty)?,
            Self::Paused => fleet[node].resume(),
        }
        Ok(())
    }
}

/// A worker and its results before the fault.
struct MeasuredWorker<'a> {
    peer: &'a Peer,
    worker: Process,
    healthy_p50: f64,
    /// None for a client that is too slow during the fault to measure its throughput.
    healthy_rate: Option<f64>,
}

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for fault in [Fault::Dead, Fault::Paused] {
        let mut peers = bench.peers(Part::Faults);
        if bench.round == 0 {
            peers.extend(bench.peers(Part::FaultOnce));
        }
        // These take half a second for each acquire and each release, so only three rounds include them.
        if fault == Fault::Paused && bench.round >= 3 {
            peers.retain(|peer| !is_slow(peer, fault));
        }
        measure_fault(bench, &peers, fault)?;
    }
    Ok(())
}

/// Whether a peer takes so long for each lock that only one is measured.
fn is_slow(peer: &Peer, fault: Fault) -> bool {
    peer.takes_part_in(Part::FaultOnce) || fault == Fault::Paused && peer.name == "rslock"
}

fn measure_fault(bench: &mut Bench, peers: &[Peer], fault: Fault) -> Outcome<()> {
    let urls = bench.new_lock_cluster(5)?;
    let node = bench.round % urls.len();
    let mut workers = Vec::new();
    for (peer, mut worker) in start_all(peers, Threads::All, &urls)? {
        let ops = Request::Sequence { ops: peer.batch };
        let micros = worker.request(&ops, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
        let healthy_p50 = Timings::p50(&Timings::from_pairs(&micros).acquires);
        let healthy_rate =
            (!is_slow(peer, fault)).then(|| throughput(peer, &mut worker, 64, DURATION)).transpose()?;
        let healthy_rate = healthy_rate.map(|(per_second, _)| per_second);
        workers.push(MeasuredWorker { peer, worker, healthy_p50, healthy_rate });
    }
    fault.inject(&mut bench.fleet, node);
    let measured = measure_during_fault(bench, &mut workers, fault, &urls);
    fault.repair(&mut bench.fleet, node)?;
    measured?;
    // A resumed node executes all requests that it received. A client sends its pending releases once it has
    // connected again; quorlock waits at most two seconds between two dials.
    thread::sleep(RECOVERY);
    // Slow clients are left out: their releases got no reply, so their locks do not count as released.
    let released: Vec<Peer> = peers.iter().filter(|peer| !is_slow(peer, fault)).cloned().collect();
    bench.leftover_keys("faults", &released)
}

fn measure_during_fault(
    bench: &mut Bench,
    workers: &mut [MeasuredWorker<'_>],
    fault: Fault,
    urls: &[String],
) -> Outcome<()> {
    let after = format!("{} after connect", fault.name());
    for measured in &mut *workers {
        record_latency(bench, &after, measured, None, fault);
    }
    // Throughput is measured after quorlock has closed the connection to the node, which takes four reply
    // timeouts.
    thread::sleep(AFTER_DISCONNECT);
    for measured in &mut *workers {
        record_throughput(bench, &after, measured, None)?;
    }
    let before = format!("{} before connect", fault.name());
    for measured in &mut *workers {
        if measured.peer.takes_part_in(Part::FaultOnce) {
            continue;
        }
        // No warm-up: the first acquire follows the dial at once.
        let mut new_worker = start(measured.peer, Threads::All, urls)?;
        record_latency(bench, &before, measured, Some(&mut new_worker), fault);
        record_throughput(bench, &before, measured, Some(&mut new_worker))?;
        thread::sleep(SETTLE);
    }
    Ok(())
}

fn record_latency(
    bench: &mut Bench,
    fault_name: &str,
    measured: &mut MeasuredWorker<'_>,
    new_worker: Option<&mut Process>,
    fault: Fault,
) {
    let is_slow = is_slow(measured.peer, fault);
    let (ops, timeout) = if is_slow { (1, SHORT_TIMEOUT) } else { (OPS, TIMEOUT) };
    let reply = new_worker.unwrap_or(&mut measured.worker).request(&Request::Sequence { ops }, timeout);
    let (p50, longest) = match reply {
        Ok(micros) => {
            let acquires = Timings::from_pairs(&micros).acquires;
            (Timings::p50(&acquires), percentile(acquires, 1.0))
        }
        Err(error) => {
            eprintln!("{}, one of five nodes {fault_name}: {error}", measured.peer.name);
            (error.value(), error.value())
        }
    };
    let name = &measured.peer.name;
    bench.store.record(&metrics::fault(fault_name, metrics::FAULT_P50), name, p50);
    bench.store.record(
        &metrics::fault(fault_name, metrics::FAULT_P50_RATIO),
        name,
        p50 / measured.healthy_p50,
    );
    bench.store.record(&metrics::fault(fault_name, metrics::LONGEST_ACQUIRE), name, longest / 1000.0);
}

fn record_throughput(
    bench: &mut Bench,
    fault_name: &str,
    measured: &mut MeasuredWorker<'_>,
    new_worker: Option<&mut Process>,
) -> Outcome<()> {
    let Some(healthy_rate) = measured.healthy_rate else { return Ok(()) };
    let (per_second, _) =
        throughput(measured.peer, new_worker.unwrap_or(&mut measured.worker), 64, DURATION)?;
    bench.store.record(
        &metrics::fault(fault_name, metrics::FAULT_RATE_RATIO),
        &measured.peer.name,
        per_second / healthy_rate,
    );
    Ok(())
}

const OPS: usize = 1000;
const DURATION: Duration = Duration::from_millis(600);
const SHORT_TIMEOUT: Duration = Duration::from_secs(12);
const AFTER_DISCONNECT: Duration = Duration::from_millis(2200);
const RECOVERY: Duration = Duration::from_millis(3500);
