//! Distributed locks over N independent Redis masters (Redlock). At most one client at a time holds a named lock,
//! across processes and machines. This requires that a majority of the nodes keep their data and that clocks run at
//! roughly the right speed.
//!
//! ```no_run
//! use std::time::Duration;
//! use quorlock::Redlock;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redlock = Redlock::connect(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]).await?;
//!
//! let guard = redlock.mutex("orders:42").ttl(Duration::from_secs(10)).acquire().await?;
//! // … only this task holds the lock; it is renewed in the background …
//! guard.release().await?;
//!
//! redlock.shutdown(Duration::from_secs(2)).await?;
//! # Ok(()) }
//! ```
//!
//! # Overview
//!
//! - [`Redlock`] is the client: one per process, cheap to clone. [`Redlock::connect`] makes one with the
//!   default options, [`Redlock::builder`] lists all.
//! - [`Redlock::mutex`] names a lock. [`acquire`](Mutex::acquire) waits for it, [`try_acquire`](Mutex::try_acquire)
//!   tries once, [`try_acquire_for`](Mutex::try_acquire_for) for a limited time. [`run`](Mutex::run) runs a future under it and drops that future if the lock is lost.
//! - [`Guard`] is a held lock. It is renewed automatically. It reports how long it is still valid
//!   ([`remaining`](Guard::remaining)) and whether it is lost ([`lost`](Guard::lost),
//!   [`is_valid`](Guard::is_valid)). Dropping it releases the lock.
//! - [`Guard::into_ticket`] makes a held lock a [`LockTicket`] for another process. There [`Redlock::adopt`] makes it a guard again.
//! - [`Redlock::inspect`] shows who holds a name, node by node. [`Redlock::node_status`] shows the state of each node.
//! - [`Event`](event::Event) describes what happens to locks and nodes. Events go to `tracing` and to a closure of
//!   your own ([`on_event`](RedlockBuilder::on_event)).
//! - Each operation has its own [error]. The modules [`node`], [`event`] and [`inspect`] have the types of status
//!   reports.
//!
//! # Loss of a lock
//!
//! A lock is a lease with a deadline. Renewals start at a third of its ttl. A renewal that gets too few replies changes
//! nothing and is retried. If no renewal succeeds, the lost signal comes *before* the deadline, from a local timer that
//! needs no network. From the deadline on, [`is_valid`](Guard::is_valid) returns false, even if timers are late.
//!
//! Long work should wait for that signal:
//!
//! ```no_run
//! # async fn step() {}
//! # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
//! let guard = redlock.mutex("reindex").acquire().await?;
//! tokio::select! {
//!     reason = guard.lost() => eprintln!("lost ({reason}): stop, and leave the work to the next holder"),
//!     () = step() => {}
//! }
//! # Ok(()) }
//! ```
//!
//! [`Mutex::run`] does exactly this. If the runtime may be blocked for long, build the client with
//! [`dedicated_thread`](RedlockBuilder::dedicated_thread), so that renewals continue. Such a client also works without
//! a Tokio runtime, on any executor.
//!
//! If other clients took or deleted a lock's keys, the next renewal reports the loss, or else the release does:
//! [`ReleaseError::Lost`](error::ReleaseError::Lost).
//!
//! After a fork only the parent process has the client and its locks. In the child process every call to a node returns
//! [`NoDriver::Forked`](error::NoDriver::Forked) at once, and no guard is valid. Build a new client there.
//!
//! # Safety of the lock
//!
//! The chapter [Safety](safety) says what is guaranteed, on which conditions, and what is not. In short:
//!
//! - A lock alone prevents duplicate work. It cannot stop a holder that is paused after its last check of the lock.
//! - If a second holder would damage data, send [`fencing_token`](Guard::fencing_token) to the protected resource
//!   with every write. The resource must reject smaller tokens.
//! - A node that may have lost data casts no vote for the lock cluster's [max TTL](RedlockBuilder::max_ttl). Therefore
//!   a *new* lock cluster votes only after that time, unless it is initialized once: [`RedlockBuilder::initialize`],
//!   `quorlock init`.
//! - [`Mode::Plain`] turns fencing and probation off: literally `SET NX PX`.
//!
//! # Features
//!
//! - `serde`: `Serialize` for [`FencingToken`], [`Mode`], the lease deadline, node status, inspections, replies, outcomes
//!   and reasons; `Deserialize` for the token and the mode. Both for [`LockTicket`]. Off by default.
//! - `tls-rustls`: `rediss://` and `valkeys://` by rustls with the ring provider. Off by default.
//!
//! # Minimum Rust version
//!
//! Rust 1.89. A new minor version of this crate may raise it to a release of Rust that is at least six months old.
//!
//! # Platforms
//!
//! On Linux, leases use the boot clock, which keeps running during suspend. On macOS the monotonic clock does the same.
//! On other platforms the monotonic clock may stop during suspend; there the wall clock ends the lease.
#![cfg_attr(docsrs, feature(doc_cfg))]
mod driver;
pub mod error;
pub mod event;
mod host;
pub mod inspect;
mod lock;
pub mod node;
mod observe;
pub mod reconfiguration;
pub mod safety;
mod view;

pub use error::{AcquireError, RunError};
pub use lock::{
    Guard, InitOutcome, LockTicket, LockView, Mode, Mutex, Redlock, RedlockBuilder, ReleaseOutcome,
};
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use node::reply_length;
pub use quorlock_proto::fence::FencingToken;
pub use quorlock_proto::request::Key as LockName;
pub use tokio_util::sync::CancellationToken;
pub use view::LeaseDeadline;

/// Compiles the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
