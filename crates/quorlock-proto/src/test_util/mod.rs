//! A simulated Redis node, and the conformance suite that it and a real server must pass.

pub mod conformance;
pub mod founding;
pub mod node;
