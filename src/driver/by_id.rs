//! Maps by operation id, with a fast hasher.

use quorlock_proto::request::OperationId;
use rustc_hash::FxHashMap;

/// A map by operation id. The ids come from a counter of this process, so no attacker can choose colliding ids.
/// The default hasher's protection against that would cost more than all other work done here.
pub(super) type ById<T> = FxHashMap<OperationId, T>;
