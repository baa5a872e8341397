//! quorlock
#![cfg_attr(docsrs, feature(doc_cfg))]
mod driver;
mod host;
mod lock;
mod node;
mod observe;
mod protocol;

pub use driver::{NodeState, NodeStatus};
pub use lock::*;
pub use observe::{Event, Observer};
pub use protocol::attempt::Why;
pub use protocol::claim::{Mark, Phase};
pub use protocol::lease::Loss;
pub use protocol::time::Moment;
pub use protocol::vote::{Bar, Fault, Holder, Sighting, Vote};
