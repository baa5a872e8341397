//! The nodes of a client: their status, their replies, and why one is excluded or on probation.

// Inside: dials one node, encodes requests, parses replies and decodes them into votes. `address` parses the URL. `dial`
// opens a `connection` and runs the `handshake`, which returns a `server_info`. `script` encodes requests, `reply` parses
// replies, and `decode` maps them to votes.

mod address;
#[cfg(test)]
mod conformance;
mod connection;
mod credentials;
mod decode;
mod dial;
mod dial_error;
mod dial_settings;
mod error_reply;
mod handshake;
mod notification;
mod reply;
mod resp_encode;
mod script;
mod server_info;
mod stream;
#[cfg(feature = "tls-rustls")]
mod tls;

pub use crate::view::{
    ClusterSettings, DialStep, Fences, NodeReplies, NodeReply, NodeState, NodeStatus, NodeWarning,
    Persistence, Probation, SeatStatus, ServerVersion,
};
pub(crate) use address::Address;
pub(crate) use connection::Connection;
pub(crate) use credentials::SharedProvider;
pub use credentials::{Credentials, CredentialsProvider, CredentialsRequest};
pub(crate) use decode::{DecodedReply, decode, decode_marker};
pub(crate) use dial::{DialedNode, dial, renewed_credentials};
pub(crate) use dial_error::{DialError, DialFailure};
pub(crate) use dial_settings::DialSettings;
pub(crate) use handshake::IS_PROXY;
pub(crate) use notification::Notification;
pub use quorlock_proto::vote::{ExclusionReason, ProbationReason, ReplyFailure};
pub(crate) use reply::Reply;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use reply::reply_length;
pub(crate) use script::{RequestEncoder, ScriptForm, needs_marker};
pub(crate) use server_info::ServerInfo;
#[cfg(feature = "tls-rustls")]
pub(crate) use tls::{Tls, TlsFiles};
