//! The sans-IO core of quorlock: it decides, and reads no clock, draws no random number and does no input or
//! output.
//!
//! An [`Attempt`](attempt::Attempt) requests the lock of a [`LockSpec`](request::LockSpec) from all nodes at
//! once. With q grants it becomes a [`Lease`](lease::Lease), which renews itself until it is released or
//! lost. A [`Round`](round::Round) counts the votes on one request to all nodes.
//! [`LeaseParams`](lease_params::LeaseParams) computes the deadline. The
//! [`Coordinator`](coordinator::Coordinator) runs many operations over one ordered queue per node.
//!
//! The time and random numbers are arguments. So model checkers and a simulation run the same code as the
//! driver. Every operation is `Clone + Eq + Hash`, accepts inputs in any order without a panic, and ignores
//! stale ones. After each input, call `poll` until it returns `None`, then `wake_at` for the next wake-up.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Without `std`, this code cannot reach a clock, thread, file or socket. The tests and the simulated node have it.
#![cfg_attr(not(any(test, feature = "test-util")), no_std)]

extern crate alloc;

pub mod attempt;
pub mod backoff;
pub mod clock_monitor;
pub mod coordinator;
pub mod fairness;
pub mod fence;
pub mod lease;
pub mod lease_params;
pub mod marker;
pub mod membership;
mod mutant;
pub mod pipeline;
pub mod quorum;
pub mod request;
pub mod roster;
pub mod round;
#[cfg(feature = "serde")]
pub mod serialize_duration;
pub mod single_request;
pub mod span;
pub mod survey;
pub mod time;
pub mod vote;

#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
#[cfg(test)]
mod tests;
