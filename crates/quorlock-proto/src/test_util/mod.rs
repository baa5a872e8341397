//! A simulated Redis node, and the conformance suite that it and a real server pass.

pub mod conformance;
pub mod node;
