//! Many tasks, each with a lock of its own.

use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, PATIENCE, named, start_all};
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::rows;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for tasks in [1, 8, 64, 512] {
        let peers = bench.peers(if tasks == 64 { Part::Rush } else { Part::Tasks });
        let urls = bench.fresh(5)?;
        let mut workers = start_all(&peers, Threads::All, &urls)?;
        for (peer, worker) in &mut workers {
            let (per_second, cpu_micros) = rush(peer, worker, tasks, SPAN)?;
            bench.book.put(&rows::per_second(tasks), &peer.name, per_second);
            bench.book.put(&rows::cpu(tasks), &peer.name, cpu_micros);
        }
        if tasks == 64 {
            bench.left_over("throughput", &peers)?;
        }
        for (_, worker) in workers {
            worker.end()?;
        }
    }
    Ok(())
}

/// What is left by callers who walk away.
pub(crate) fn cancelled(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Cancel);
    let urls = bench.fresh(5)?;
    let mut workers = start_all(&peers, Threads::All, &urls)?;
    for (peer, worker) in &mut workers {
        let request = Request::Cancel { tasks: 64, span: SPAN / 2 };
        worker.request(&request, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
    }
    bench.left_over("cancelled", &peers)?;
    for (_, worker) in workers {
        worker.end()?;
    }
    Ok(())
}

/// Locks per second, and microseconds of the client's processor time for each.
pub(super) fn rush(peer: &Peer, worker: &mut Process, tasks: usize, span: Duration) -> Outcome<(f64, f64)> {
    let figures =
        worker.request(&Request::Rush { tasks, span }, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
    let [done, seconds, cpu] = figures[..] else { return Err("a rush has three figures".into()) };
    Ok((done / seconds, cpu * 1e6 / done))
}

const SPAN: Duration = Duration::from_millis(800);
