//! Tests of the core without a network: scenarios, properties, random histories, models and a simulation.

#![allow(clippy::unchecked_time_subtraction, reason = "a test that subtracts too much should fail")]

mod clock_properties;
mod disorder;
mod histories;
mod marker_properties;
mod models;
mod properties;
mod proposer;
mod reconfiguration;
mod roster_text;
mod scenarios;
mod sim;
mod simulated;
mod world;
