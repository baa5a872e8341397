//! quorlock
mod host;
mod protocol;
