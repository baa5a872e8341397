//! What the benches share.

pub use quorlock_bench::{Outcome, by_hand, machine, stats};
