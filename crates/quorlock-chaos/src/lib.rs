//! Starts real redis-servers and injects real faults, for tests, benchmarks and `quorlock dev`.
//!
//! A [`Server`] is one `redis-server` process on a free loopback port; a [`Fleet`] is several of them. They
//! can be killed, paused, and restarted with all, no or old data. They can be wiped, demoted and promoted,
//! and have their databases swapped. A [`MovableAddress`] moves from one server to another, and a [`Proxy`] does
//! so while old connections live on. A quorum lock
//! must survive these faults:
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
//! let lost: Option<String> = fleet[0].command(&["GET", "orders:42"])?;
//! assert_eq!(lost, None);
//! # Ok(())
//! # }
//! ```
//!
//! Servers and their folders are removed when the value is dropped and when a test panics. Each server has a
//! watchdog process, which removes it when this process is killed with SIGKILL. Only processes started here are
//! signaled, by their id.
//!
//! Requirements: a Unix system with `/bin/sh`, and a server binary that [`locate`] finds.

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
