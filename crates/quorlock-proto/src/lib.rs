//! The algorithm, pure: no clock, no randomness, no input or output.
//!
//! A [`LockSpec`](request::LockSpec) is put to all nodes at once by an [`Attempt`](attempt::Attempt). q grants make it a
//! [`Lease`](lease::Lease), which renews itself until it is released or lost. Each *round* of questions counts its
//! answers in a [`Round`](round::Round); [`LeaseParams`](lease_params::LeaseParams) says until when an answer may be trusted. The
//! [`Coordinator`](coordinator::Coordinator) runs many of them over one ordered queue per node.
//!
//! Time comes in as an argument and chance as a number, so the code that decides here is the code that a model
//! checker can walk and a simulation can drive. Every machine is `Clone + Eq + Hash`, takes inputs in any order
//! without a panic, and ignores stale ones. After each input, `poll` it until it has nothing more to say, then ask
//! when it wants to be woken.

#![cfg_attr(docsrs, feature(doc_cfg))]

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
pub mod round;
pub mod span;
pub mod survey;
pub mod time;
pub mod vote;

#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
#[cfg(test)]
mod tests;
