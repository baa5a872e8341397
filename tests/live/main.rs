//! Against real redis-servers: every promise that needs one. One file per promise; servers are started here, on
//! loopback, and gone at the end.

mod bypass;
mod cancel;
mod chaos;
mod clock;
mod dialing;
mod exclusion;
mod fencing;
mod lease;
mod line;
mod membership;
mod mutex;
mod nodes;
mod others;
mod probation;
mod redundancy;
mod refusal;
mod retention;
mod rolling;
mod splits;
mod stand_in;
mod store;
#[cfg(feature = "tls-rustls")]
mod tls;
mod told;
mod unanswered;
mod waiting;
mod world;
