//! The protocol without a network: the shipped code, a world that can be stepped, told stories and random ones.

#![allow(clippy::unchecked_time_subtraction, reason = "a test that subtracts too much should fail")]

mod disorder;
mod histories;
mod models;
mod properties;
mod scenarios;
mod sim;
mod simulated;
mod world;
