//! Runs lock clients alternately against real servers, and compares them.
//!
//! Every client is a [`Peer`]: a separate program that executes requests from its standard input (see
//! [`worker`]). So the language of a client makes no difference, and processor time and memory are measured
//! per client.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "internal to the benches; every error ends the run"
)]
#![allow(clippy::disallowed_methods, reason = "a bench measures wall time, not the lease clock")]

pub mod baseline;
mod bench;
pub mod by_hand;
pub mod contenders;
mod delay_proxy;
mod environment;
mod goals;
pub mod machine;
mod metrics;
mod options;
pub mod own_clients;
mod parts;
mod peer;
mod plot;
mod process;
mod report;
mod results_store;
pub mod stats;
pub mod worker;

use std::error::Error;

pub use bench::main;
pub use peer::{Part, Peer};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
