//! Against real redis-servers: every promise that needs one. One file per promise; servers are started here, on
//! loopback, and gone at the end.

mod cancel;
mod exclusion;
mod lease;
mod mutex;
mod nodes;
mod probation;
mod refusal;
#[cfg(feature = "tls-rustls")]
mod tls;
mod world;
