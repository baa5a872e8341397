//! Safety: the guarantees of a lock, their conditions, and the tests.
//!
#![doc = include_str!("../docs/safety.md")]
//!
//! ## Items named in this chapter
//!
//! - Fencing: [`LockView::fencing_token`](crate::LockView::fencing_token),
//!   [`FencingToken`](crate::FencingToken),
//!   [`Mutex::min_fencing_number`](crate::Mutex::min_fencing_number),
//!   [`RedlockBuilder::fencing_retention`](crate::RedlockBuilder::fencing_retention),
//!   [`Redlock::forget`](crate::Redlock::forget).
//! - Holding: [`Guard`](crate::Guard), [`Guard::spare_nodes`](crate::Guard::spare_nodes),
//!   [`Mutex::auto_renew`](crate::Mutex::auto_renew), [`Mutex::run`](crate::Mutex::run).
//! - Lock cluster: [`RedlockBuilder::quorum`](crate::RedlockBuilder::quorum),
//!   [`RedlockBuilder::max_clock_drift`](crate::RedlockBuilder::max_clock_drift),
//!   [`RedlockBuilder::read_only`](crate::RedlockBuilder::read_only),
//!   [`RedlockBuilder::initialize`](crate::RedlockBuilder::initialize),
//!   [`Redlock::force_release`](crate::Redlock::force_release),
//!   [`Event::NodeWarning`](crate::event::Event::NodeWarning).
