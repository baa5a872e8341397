//! Measures clients with round trips of 0.5, 1, 2, 5 and 20 ms to the nodes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, Timings, with_peer_name};
use crate::delay_proxy::DelayProxy;
use crate::metrics;
use crate::peer::Part;
use crate::stats::median;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Distance);
    bench.new_lock_cluster(5)?;
    // The delays rotate over the nodes with the round.
    let proxies = MICROS.iter().enumerate().map(|(node, micros)| {
        DelayProxy::start(
            bench.fleet[(node + bench.round) % MICROS.len()].port(),
            Duration::from_micros(*micros),
        )
    });
    let proxies = proxies.collect::<Result<Vec<_>, _>>()?;
    let urls: Vec<String> = proxies.iter().map(DelayProxy::url).collect();
    let mut workers = Vec::new();
    for peer in &peers {
        workers.push((peer, crate::bench::start(peer, Threads::One, &urls)?));
    }
    let mut trips = vec![Vec::new(); proxies.len()];
    let mut micros = vec![Vec::new(); peers.len()];
    for _ in 0..BATCHES {
        for (proxy, trips) in proxies.iter().zip(&mut trips) {
            trips.extend(round_trips(proxy)?);
        }
        for ((peer, worker), micros) in workers.iter_mut().zip(&mut micros) {
            let request = Request::Sequence { ops: OPS };
            micros.extend(worker.request(&request, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?);
        }
    }
    let mut trips: Vec<f64> = trips.into_iter().map(median).collect();
    trips.sort_by(f64::total_cmp);
    bench.store.record(metrics::THIRD_ROUND_TRIP, metrics::NO_CLIENT, trips[2]);
    for (peer, micros) in peers.iter().zip(micros) {
        let timings = Timings::from_pairs(&micros);
        bench.store.record(metrics::DISTANT, &peer.name, Timings::p50(&timings.acquires));
        bench.store.record(metrics::DISTANT_RELEASE, &peer.name, Timings::p50(&timings.releases));
    }
    for (_, worker) in workers {
        worker.end()?;
    }
    bench.leftover_keys("distance", &peers)
}

/// The microseconds of PINGs through a proxy.
fn round_trips(proxy: &DelayProxy) -> Outcome<Vec<f64>> {
    let mut stream = TcpStream::connect(proxy.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut trips = Vec::new();
    for _ in 0..PINGS {
        let begin = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0; b"+PONG\r\n".len()])?;
        trips.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(trips)
}

const MICROS: [u64; 5] = [500, 1000, 2000, 5000, 20_000];
const BATCHES: usize = 3;
const OPS: usize = 20;
const PINGS: usize = 15;
