//! One lock after the other, without contention.

use crate::Outcome;
use crate::bench::{Bench, PATIENCE, Spans, named, start_all};
use crate::figures::percentile;
use crate::peer::Part;
use crate::rows;
use crate::worker::{Request, Threads};

/// All workers are there at once and take turns of a few hundred locks, so that what else the machine does hits all alike.
pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for threads in Threads::BOTH {
        for nodes in [1, 3, 5, 7] {
            let part = match (nodes, threads) {
                (5, Threads::One) => Part::OneThread,
                (5, Threads::All) => Part::AllThreads,
                _ => Part::Nodes,
            };
            let peers = bench.peers(part);
            let urls = bench.fresh(nodes)?;
            let mut workers = start_all(&peers, threads, &urls)?;
            let mut figures = vec![Vec::new(); peers.len()];
            for _ in 0..TURNS {
                for ((peer, worker), figures) in workers.iter_mut().zip(&mut figures) {
                    let request = Request::Sequence { ops: peer.turn };
                    figures
                        .extend(worker.request(&request, PATIENCE).map_err(|trouble| named(peer, &trouble))?);
                }
            }
            for (peer, figures) in peers.iter().zip(figures) {
                let spans = Spans::of(&figures);
                bench.book.put(&rows::acquire(nodes, threads), &peer.name, Spans::p50(&spans.acquires));
                bench.book.put(&rows::release(nodes, threads), &peer.name, Spans::p50(&spans.releases));
                let p99 = percentile(spans.acquires, 0.99);
                bench.book.put(&rows::acquire_p99(nodes, threads), &peer.name, p99);
            }
            if nodes == 5 && threads == Threads::All {
                bench.left_over("uncontended", &peers)?;
            }
            for (_, worker) in workers {
                worker.end()?;
            }
        }
    }
    Ok(())
}

const TURNS: usize = 4;
