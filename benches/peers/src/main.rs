//! Compares quorlock with all peers, by the runner of `cargo bench`. `scripts/bench` installs the peers in
//! other languages, and lists their commands in `BENCH_FOREIGN`.

mod postgres;
mod redlock;
mod rslock;

use std::env;
use std::ffi::OsString;

use quorlock_bench::worker::serve;
use quorlock_bench::{Outcome, Part, Peer, main as run, own_clients};

const RSLOCK: &str = "rslock";
const REDLOCK: &str = "redlock";
const POSTGRES: &str = "PostgreSQL";

fn main() -> Outcome<()> {
    let mut peers = own_clients::peers()?;
    peers.push(Peer::own(
        RSLOCK,
        &[
            Part::OneThread,
            Part::AllThreads,
            Part::Throughput,
            Part::TaskCounts,
            Part::Cancelled,
            Part::Faults,
            Part::Distance,
            Part::Leases,
            Part::Takeover,
            Part::Work,
        ],
    )?);
    peers.push(Peer::own(REDLOCK, &[Part::AllThreads, Part::Throughput, Part::FaultOnce])?.slow());
    let mut versions =
        vec![("version".to_owned(), "rslock 0.10.0, redlock (Rust) 2.0.0, redis crate 1.8.1".to_owned())];
    for line in env::var("BENCH_FOREIGN").unwrap_or_default().lines() {
        let mut words = line.split('\t');
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            return Err(format!("BENCH_FOREIGN: unexpected line {line:?}").into());
        };
        versions.push(("version".to_owned(), format!("{name} {version}")));
        peers.push(foreign(name, words.map(OsString::from).collect()));
    }
    match env::var("BENCH_POSTGRES") {
        Ok(url) => {
            versions.push(("version".to_owned(), env::var("BENCH_POSTGRES_VERSION").unwrap_or_default()));
            peers.push(Peer::own(POSTGRES, &[Part::AllThreads, Part::Throughput])?.at(url));
        }
        Err(_) => versions.push(("missing".to_owned(), POSTGRES.to_owned())),
    }
    for missing in env::var("BENCH_MISSING").unwrap_or_default().lines() {
        versions.push(("missing".to_owned(), missing.to_owned()));
    }
    let mut workers = own_clients::WORKERS.to_vec();
    workers.extend([
        (RSLOCK, serve::<rslock::Rslock> as _),
        (REDLOCK, serve::<redlock::Redlock> as _),
        (POSTGRES, serve::<postgres::Postgres> as _),
    ]);
    run(&peers, &workers, &versions)
}

/// A client in another language, with the parts that it supports.
fn foreign(name: &str, program: Vec<OsString>) -> Peer {
    match name {
        "node-redlock" => {
            Peer::other(name, program, &[Part::AllThreads, Part::Throughput, Part::Faults, Part::Distance])
        }
        // It waits for every node, so a fault makes it slow.
        "redlock-universal" => {
            Peer::other(name, program, &[Part::AllThreads, Part::Throughput, Part::FaultOnce, Part::Distance])
        }
        _ => Peer::other(name, program, &[Part::AllThreads, Part::Throughput, Part::FaultOnce]).slow(),
    }
}
