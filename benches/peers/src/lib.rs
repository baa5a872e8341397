//! Re-exports of `quorlock_bench` for the benches of this package.

pub use quorlock_bench::{Outcome, by_hand, machine, stats};
