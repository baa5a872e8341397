//! What stands on a node for a lock's key.

use serde::{Deserialize, Serialize};

/// A key and its fence, as they stood on a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySample {
    /// Whose the key is: the short hash of the owner token, as the library shows it too. None if there is no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The largest fencing number that the node knows for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}
