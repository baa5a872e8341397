//! Changing a lock cluster's nodes, quorum or max TTL under load: see
//! [`RedlockBuilder::reconfigure`](crate::RedlockBuilder::reconfigure).

pub use crate::lock::reconfigure::{
    Reconfiguration, ReconfigurationObstacle, ReconfigurationProgress, ReconfigurationStep,
};
