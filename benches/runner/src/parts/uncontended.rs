//! Measures acquire and release, one lock after the other, without contention.

use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, Timings, start_all, with_peer_name};
use crate::metrics;
use crate::peer::Part;
use crate::stats::percentile;
use crate::worker::{Request, Threads};

/// All workers run in alternating batches of a few hundred locks, so that other load on the machine affects
/// all of them.
pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for threads in Threads::BOTH {
        for nodes in [1, 3, 5, 7] {
            let part = match (nodes, threads) {
                (5, Threads::One) => Part::OneThread,
                (5, Threads::All) => Part::AllThreads,
                _ => Part::NodeCounts,
            };
            let peers = bench.peers(part);
            let urls = bench.new_lock_cluster(nodes)?;
            let mut workers = start_all(&peers, threads, &urls)?;
            let mut micros = vec![Vec::new(); peers.len()];
            for _ in 0..BATCHES {
                for ((peer, worker), micros) in workers.iter_mut().zip(&mut micros) {
                    let request = Request::Sequence { ops: peer.batch };
                    micros.extend(
                        worker.request(&request, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?,
                    );
                }
            }
            for (peer, micros) in peers.iter().zip(micros) {
                let timings = Timings::from_pairs(&micros);
                bench.store.record(
                    &metrics::acquire(nodes, threads),
                    &peer.name,
                    Timings::p50(&timings.acquires),
                );
                bench.store.record(
                    &metrics::release(nodes, threads),
                    &peer.name,
                    Timings::p50(&timings.releases),
                );
                let p99 = percentile(timings.acquires, 0.99);
                bench.store.record(&metrics::acquire_p99(nodes, threads), &peer.name, p99);
            }
            if nodes == 5 && threads == Threads::All {
                bench.leftover_keys("uncontended", &peers)?;
            }
            for (_, worker) in workers {
                worker.end()?;
            }
        }
    }
    Ok(())
}

const BATCHES: usize = 4;
