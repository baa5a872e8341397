//! One Redis master: reaching it, speaking its protocol, and what its answers mean.
//!
//! `address` is a URL once checked; `dial` makes a `connection` of it by a `handshake` that leaves a `server_info`;
//! `script` packs questions, `reply` cuts the answers out of the bytes, `decode` says what they are worth.

mod address;
#[cfg(test)]
mod conformance;
mod connection;
mod decode;
mod dial;
mod error_reply;
mod fences;
mod handshake;
mod notification;
mod reply;
mod resp_encode;
mod script;
mod server_info;
mod stream;
#[cfg(feature = "tls-rustls")]
mod tls;

pub(crate) use address::{Address, Credentials};
pub(crate) use connection::Connection;
pub(crate) use decode::{clock, fences, marker_reading, redial_reason, vote};
pub use dial::DialStep;
pub(crate) use dial::{DialError, DialedNode, DialSettings, dial};
pub use fences::Fences;
pub(crate) use reply::Reply;
#[cfg(feature = "bench-internals")]
pub use reply::reply_length;
pub(crate) use script::{RequestEncoder, ScriptForm, needs_marker};
pub(crate) use server_info::ServerInfo;
#[cfg(feature = "tls-rustls")]
pub(crate) use tls::{Tls, TlsFiles};
