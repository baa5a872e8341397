//! Against real redis-servers: every promise that needs one. One file per promise; servers are started here, on
//! loopback, and gone at the end.

mod bypass;
mod cancel;
mod chaos;
mod clock;
mod exclusion;
mod fencing;
mod lease;
mod line;
mod membership;
mod mutex;
mod nodes;
mod probation;
mod redundancy;
mod refusal;
mod rolling;
mod splits;
mod store;
#[cfg(feature = "tls-rustls")]
mod tls;
mod waiting;
mod world;
