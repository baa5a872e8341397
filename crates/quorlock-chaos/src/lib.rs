//! Real redis-servers and real faults, for tests, benches and `quorlock dev`.
//!
//! A [`Server`] is one `redis-server` process of our own on a free loopback port, a [`Fleet`] is several of them
//! started side by side. They can be killed, paused, brought back with their data, without it, or with what they
//! knew some time ago; they can be wiped, demoted and promoted, and have their databases swapped; a [`MovableAddress`] is an
//! address that moves from one to another. Those are the faults that a lock over a quorum has to survive:
//!
//! ```
//! use quorlock_chaos::{Data, Fleet};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut fleet = Fleet::start(3)?;
//! fleet[0].command::<()>(&["SET", "orders:42", "mine"])?;
//!
//! fleet[0].kill();
//! fleet[1].pause();
//! fleet[0].restart(Data::Empty)?;
//! fleet[1].resume();
//!
//! let forgotten: Option<String> = fleet[0].command(&["GET", "orders:42"])?;
//! assert_eq!(forgotten, None);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing outlives its owner. Servers and their folders go when the value is dropped, when a test panics, and
//! even when this process is killed with SIGKILL: each server has a watchdog that waits for just that.
//! Only processes started here are ever signalled, by their process id.
//!
//! It runs on Unix systems: it needs `/bin/sh`, and a server binary that [`locate`] finds.

pub mod checker;
mod clock;
mod faults;
mod fleet;
pub mod history;
mod locate;
mod movable_address;
mod plan;
mod port;
mod process;
mod proxy;
mod run;
mod seeded_rng;
mod server;
mod setup;
mod snapshot;
pub mod timeline;
mod watchdog;
mod workload;

pub use redis;

pub use clock::{Clock, ClockError, ClockLibrary};
pub use faults::{FaultKind, UnknownFault};
pub use fleet::Fleet;
pub use locate::{NoBinary, locate};
pub use movable_address::MovableAddress;
pub use proxy::{DirectionRule, LinkRules, Proxy};
pub use run::{Config, Outcome, Progress, RunError, run};
pub use server::{Server, StartError};
pub use setup::Setup;
pub use snapshot::{Data, Snapshot};
pub use workload::client;
