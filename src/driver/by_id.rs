//! Maps by operation id, with a fast hasher.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use quorlock_proto::request::OperationId;

/// A map by operation id.
pub(super) type ById<T> = HashMap<OperationId, T, BuildHasherDefault<IdHasher>>;

/// Hashes operation ids. They come from a counter of this process, so no attacker can choose colliding ids.
/// The default hasher's protection against that would cost more than all other work done here.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only ids are hashed; this is for completeness.
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
}
