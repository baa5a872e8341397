//! The sample of a lock's key on a node.

use serde::{Deserialize, Serialize};

/// A key and its fence, as they were on a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySample {
    /// The key's owner: the short hash of the owner token, as in the library. None if there is no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The node's fence for this key: the largest fencing number that it has given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}
