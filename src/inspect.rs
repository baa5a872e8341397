//! Who holds a lock, node by node.

pub use crate::lock::inspect::{Holder, Inspection, NodeInspection};
pub use quorlock_proto::request::OwnerHash;
pub use quorlock_proto::vote::{KeyOwner, KeyState};
