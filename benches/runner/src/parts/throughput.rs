//! Measures many tasks at the same time, each with its own lock.

use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, start_all, with_peer_name};
use crate::metrics;
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for tasks in [1, 8, 64, 512] {
        let peers = bench.peers(if tasks == 64 { Part::Throughput } else { Part::TaskCounts });
        let urls = bench.new_lock_cluster(5)?;
        let mut workers = start_all(&peers, Threads::All, &urls)?;
        for (peer, worker) in &mut workers {
            let (per_second, cpu_micros) = throughput(peer, worker, tasks, DURATION)?;
            bench.store.record(&metrics::per_second(tasks), &peer.name, per_second);
            bench.store.record(&metrics::cpu(tasks), &peer.name, cpu_micros);
        }
        if tasks == 64 {
            bench.leftover_keys("throughput", &peers)?;
        }
        for (_, worker) in workers {
            worker.end()?;
        }
    }
    Ok(())
}

/// Counts the keys that cancelled acquires leave on the nodes.
pub(crate) fn cancelled(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Cancelled);
    let urls = bench.new_lock_cluster(5)?;
    let mut workers = start_all(&peers, Threads::All, &urls)?;
    for (peer, worker) in &mut workers {
        let request = Request::Cancel { tasks: 64, duration: DURATION / 2 };
        worker.request(&request, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
    }
    bench.leftover_keys("cancelled", &peers)?;
    for (_, worker) in workers {
        worker.end()?;
    }
    Ok(())
}

/// Returns locks per second, and the client's processor time per lock in microseconds.
pub(super) fn throughput(
    peer: &Peer,
    worker: &mut Process,
    tasks: usize,
    duration: Duration,
) -> Outcome<(f64, f64)> {
    let reply = worker
        .request(&Request::Throughput { tasks, duration }, TIMEOUT)
        .map_err(|error| with_peer_name(peer, &error))?;
    let [done, seconds, cpu] = reply[..] else {
        return Err("the reply to throughput must be three numbers".into());
    };
    Ok((done / seconds, cpu * 1e6 / done))
}

const DURATION: Duration = Duration::from_millis(800);
