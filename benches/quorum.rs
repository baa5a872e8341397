//! quorlock beside the floor and beside the redis crate used by hand, on real servers.
//!
//! `cargo bench --bench quorum`, with `-- --quick` for 3 rounds instead of 11 and `-- --only PART` for less. All peers are
//! in `scripts/bench`.

use quorlock_bench::{Outcome, main as run, ours};

fn main() -> Outcome<()> {
    run(&ours::peers()?, &ours::WORKERS, &[])
}
