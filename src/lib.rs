//! Distributed locks over N independent Redis masters (Redlock). At most one client at a time holds a named lock,
//! across processes and machines. This requires that a majority of the nodes keep their data and that clocks run at
//! roughly the right speed.
//!
//! ```no_run
//! use std::time::Duration;
//! use quorlock::Redlock;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redlock = Redlock::builder()
//!     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
//!     .connect()
//!     .await?;
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
//! - [`Redlock`] is the client: one per process, cheap to clone. [`Redlock::builder`] lists its options.
//! - [`Redlock::mutex`] names a lock. [`acquire`](Mutex::acquire) waits for it, [`try_acquire`](Mutex::try_acquire)
//!   tries once. [`run`](Mutex::run) runs a future under it and drops that future if the lock is lost.
//! - [`Guard`] is a held lock. It is renewed automatically. It reports how long it is still valid
//!   ([`remaining`](LockView::remaining)) and whether it is lost ([`lost`](LockView::lost),
//!   [`is_valid`](LockView::is_valid)). Dropping it releases the lock.
//! - [`Redlock::inspect`] shows who holds a name, node by node. [`Redlock::node_status`] shows the state of each node.
//! - [`Event`] describes what happens to locks and nodes. Events go to `tracing` and to an [`Observer`] of your own.
//!
//! # Loss of a lock
//!
//! A lock is a lease with a deadline. Renewals start at a third of its ttl. A renewal that gets too few replies changes
//! nothing and is retried. If no renewal succeeds, the lost signal comes *before* the deadline, from a local timer that
//! needs no network. From the deadline on, [`is_valid`](LockView::is_valid) returns false, even if timers are late.
//!
//! Long work should wait for that signal:
//!
//! ```no_run
//! # async fn step() {}
//! # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
//! let guard = redlock.mutex("reindex").acquire().await?;
//! tokio::select! {
//!     () = guard.lost() => eprintln!("lost the lock: stop, and undo the work or leave it to the next holder"),
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
//! [`ReleaseOutcome::was_lost`].
//!
//! After a fork only the parent process has the client and its locks. In the child process every call returns
//! [`NoDriver::Forked`] at once, and no guard is valid. Build a new client there.
//!
//! # Safety of the lock
//!
//! The chapter [Safety](safety) says what is guaranteed, on which conditions, and what is not. In short:
//!
//! - A lock alone prevents duplicate work. It cannot stop a holder that is paused after its last check of the lock.
//! - If a second holder would damage data, send [`fencing_token`](LockView::fencing_token) to the protected resource
//!   with every write. The resource must reject smaller tokens.
//! - A node that may have lost data casts no vote for the lock cluster's [max TTL](RedlockBuilder::max_ttl). Therefore
//!   a *new* lock cluster votes only after that time, unless it is initialized once: [`RedlockBuilder::init`],
//!   `quorlock init`.
//! - [`RedlockBuilder::plain`] turns fencing and probation off: literally `SET NX PX`.
//!
//! # Features
//!
//! - `serde`: `Serialize` and `Deserialize` for [`FencingToken`], to send it to the resource. Off by default.
//! - `tls-rustls`: `rediss://` and `valkeys://` by rustls with the ring provider. Off by default.
//!
//! # Platforms
//!
//! On Linux, leases use the boot clock, which keeps running during suspend. On macOS the monotonic clock does the same.
//! On other platforms the monotonic clock may stop during suspend; there the wall clock ends the lease.
#![cfg_attr(docsrs, feature(doc_cfg))]
mod driver;
mod host;
mod lock;
mod node;
mod observe;
pub mod safety;

pub use driver::{DialStep, NodeState, NodeStatus, Probation};
pub use lock::*;
pub use node::Fences;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use node::reply_length;
pub use observe::{Event, Observer};
pub use quorlock_proto::attempt::FailureReason;
pub use quorlock_proto::fence::{FencingToken, ParseFencingTokenError};
pub use quorlock_proto::lease::LossReason;
pub use quorlock_proto::request::{OwnerHash, ParseOwnerHashError, RequestKind};
pub use quorlock_proto::time::DualTimestamp;
pub use quorlock_proto::vote::{ExclusionReason, KeyOwner, KeyState, ProbationReason, ReplyFailure, Vote};
pub use tokio_util::sync::CancellationToken;

/// Compiles the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
