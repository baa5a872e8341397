//! Compares quorlock with the baseline and with the redis crate used by hand, on real servers.
//!
//! `cargo bench --bench quorum`, with `-- --quick` for 3 rounds instead of 11 and `-- --only PART` for one part.
//! `scripts/bench` measures all peers.

use quorlock_bench::{Outcome, main as run, own_clients};

fn main() -> Outcome<()> {
    run(&own_clients::peers()?, &own_clients::WORKERS, &[])
}
