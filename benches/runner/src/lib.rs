//! Runs clients for locks in turns against real servers, and compares them.
//!
//! Every client is a [`Peer`]: a program of its own that executes requests from its standard input (see [`worker`]).
//! So all are treated alike, whatever they are written in, and processor time and memory are each one's own.

#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "no other crate calls it; every error ends the bench"
)]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock that its reader has")]

mod about;
mod bench;
mod book;
pub mod by_hand;
pub mod contenders;
pub mod figures;
pub mod floor;
mod goals;
pub mod machine;
mod options;
pub mod ours;
mod parts;
mod peer;
mod plot;
mod process;
mod report;
mod rows;
mod wire;
pub mod worker;

use std::error::Error;

pub use bench::main;
pub use peer::{Part, Peer};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
