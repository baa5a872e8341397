//! Locks over N independent Redis masters (Redlock): one holder at a time for a name, across processes and machines,
//! for as long as a majority of the nodes keep their data and clocks run at roughly the right speed.
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
//! // … one holder at a time, renewed in the background …
//! guard.release().await?;
//!
//! redlock.shutdown(Duration::from_secs(2)).await?;
//! # Ok(()) }
//! ```
//!
//! # What is where
//!
//! - [`Redlock`] is the client: one per process, cheap to clone. [`Redlock::builder`] lists its options.
//! - [`Redlock::mutex`] names a lock. [`acquire`](Mutex::acquire) waits for it, [`try_acquire`](Mutex::try_acquire)
//!   tries once, [`run`](Mutex::run) does work under it and drops the work if the lock is lost.
//! - [`Guard`] is the lock, held. It renews itself, tells how long it is good for
//!   ([`remaining`](LockView::remaining)), and that it is lost ([`lost`](LockView::lost), [`is_valid`](LockView::is_valid)).
//!   Dropping it releases the lock.
//! - [`Redlock::inspect`] shows who holds a name, node by node; [`Redlock::node_status`] shows how the nodes are.
//! - [`Event`] is everything worth knowing that happens, through `tracing` or an [`Observer`] of your own.
//!
//! # How a lock is lost, and what to do
//!
//! A lock is a lease with a deadline. It is renewed from a third of its ttl on; a renewal that gets too few answers is
//! repeated and changes nothing. When no renewal got through, the lost signal comes *before* the deadline, from a
//! local timer that needs no network, and [`is_valid`](LockView::is_valid) is false from the deadline on, whatever timers
//! do.
//!
//! Long work should listen:
//!
//! ```no_run
//! # async fn step() {}
//! # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
//! let guard = redlock.mutex("reindex").acquire().await?;
//! tokio::select! {
//!     () = guard.lost() => eprintln!("lost the lock: stopped, and the work is undone or left to the next"),
//!     () = step() => {}
//! }
//! # Ok(()) }
//! ```
//!
//! [`Mutex::run`] does just that. Where the runtime itself may be blocked for long, build the client with
//! [`dedicated_thread`](RedlockBuilder::dedicated_thread), so that renewals go on. Such a client also works without a Tokio
//! runtime, on any executor.
//!
//! A lock whose keys were stolen or deleted is told lost at the next renewal, or else at the release:
//! [`ReleaseOutcome::was_lost`].
//!
//! After a fork only the parent has the client and its locks. In the child every call ends at once with
//! [`NoDriver::Forked`], and no guard is valid: build a client of its own there.
//!
//! # Safety of the lock
//!
//! The chapter [Safety](safety) says what is promised on which conditions, and what is not. In short:
//!
//! - A lock alone keeps work from being done twice. It cannot stop a holder that was paused after its last look at it.
//! - Where a second holder would damage data, hand [`fencing_token`](LockView::fencing_token) to the resource with every
//!   write, and let it refuse smaller ones.
//! - A node that may have forgotten locks casts no vote for the cluster's [longest ttl](RedlockBuilder::max_ttl). So a
//!   *new* cluster votes only after that, unless it is declared fresh once: [`RedlockBuilder::init`], `quorlock init`.
//! - [`RedlockBuilder::plain`] does without all that: the textbook's `SET NX PX`.
//!
//! # Features
//!
//! - `serde`: `Serialize` and `Deserialize` for [`FencingToken`], to send it to the resource. Off by default.
//! - `tls-rustls`: `rediss://` and `valkeys://` by rustls with the ring provider. Off by default.
//!
//! # Platforms
//!
//! Linux is home: its boot clock goes on through suspend. On macOS the monotonic clock does the same. Elsewhere the
//! wall clock ends a lease that the monotonic clock slept through.
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

/// The README's Rust, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
