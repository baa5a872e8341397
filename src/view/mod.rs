//! Public values that several layers share: the status and replies of nodes, and deadlines.

mod cluster_settings;
mod deadline;
mod dial_step;
mod fences;
mod grouping;
mod node_reply;
mod node_status;
mod node_warning;
#[cfg(feature = "serde")]
mod serialize_time;

pub use cluster_settings::ClusterSettings;
pub use deadline::LeaseDeadline;
pub use dial_step::DialStep;
pub use fences::Fences;
pub(crate) use grouping::describe_states;
pub use node_reply::{NodeReplies, NodeReply};
pub(crate) use node_status::NodeStatusList;
pub use node_status::{NodeState, NodeStatus, Persistence, Probation, SeatStatus, ServerVersion};
pub use node_warning::NodeWarning;
