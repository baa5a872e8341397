//! Nodes at 0.5, 1, 2, 5 and 20 ms.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench::{Bench, PATIENCE, Spans, named};
use crate::figures::median;
use crate::peer::Part;
use crate::rows;
use crate::wire::Wire;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Distance);
    bench.fresh(5)?;
    // Which node is far changes with the round.
    let wires = MICROS.iter().enumerate().map(|(place, micros)| {
        Wire::to(bench.fleet[(place + bench.round) % MICROS.len()].port(), Duration::from_micros(*micros))
    });
    let wires = wires.collect::<Result<Vec<_>, _>>()?;
    let urls: Vec<String> = wires.iter().map(Wire::url).collect();
    let mut workers = Vec::new();
    for peer in &peers {
        workers.push((peer, crate::bench::start(peer, Threads::One, &urls)?));
    }
    let mut trips = vec![Vec::new(); wires.len()];
    let mut figures = vec![Vec::new(); peers.len()];
    for _ in 0..TURNS {
        for (wire, trips) in wires.iter().zip(&mut trips) {
            trips.extend(round_trips(wire)?);
        }
        for ((peer, worker), figures) in workers.iter_mut().zip(&mut figures) {
            let request = Request::Sequence { ops: OPS };
            figures.extend(worker.request(&request, PATIENCE).map_err(|trouble| named(peer, &trouble))?);
        }
    }
    let mut trips: Vec<f64> = trips.into_iter().map(median).collect();
    trips.sort_by(f64::total_cmp);
    bench.book.put(rows::THIRD, rows::NO_CLIENT, trips[2]);
    for (peer, figures) in peers.iter().zip(figures) {
        let spans = Spans::of(&figures);
        bench.book.put(rows::DISTANT, &peer.name, Spans::p50(&spans.acquires));
        bench.book.put(rows::DISTANT_RELEASE, &peer.name, Spans::p50(&spans.releases));
    }
    for (_, worker) in workers {
        worker.end()?;
    }
    bench.left_over("distance", &peers)
}

/// Microseconds of PINGs through a wire.
fn round_trips(wire: &Wire) -> Outcome<Vec<f64>> {
    let mut stream = TcpStream::connect(wire.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
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
const TURNS: usize = 3;
const OPS: usize = 20;
const PINGS: usize = 15;
