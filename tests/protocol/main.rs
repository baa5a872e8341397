//! The protocol without a network: the shipped code, a world that can be stepped, told stories and random ones.

#![allow(clippy::unchecked_time_subtraction, reason = "a test that subtracts too much should fail")]

// The same files that ship, so what is tested here is what runs there. Not all of it is of use to a test.
#[allow(dead_code, missing_docs)]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

mod conformance;
mod disorder;
mod histories;
mod models;
mod node;
mod properties;
mod scenarios;
mod sim;
mod simulated;
mod world;
