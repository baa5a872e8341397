//! Hashers that turn states into fingerprints.

use std::hash::Hasher;

use super::state::MAX_NODES;

/// Hashes values to 64 bits, the same on every run.
///
/// Owner tokens are the only values of 128 bits in an operation. They are skipped: a token is only a name,
/// and each node's column already holds the owner of its key.
#[derive(Clone, Copy)]
pub(crate) struct FingerprintHasher(u64);

impl FingerprintHasher {
    pub(crate) const fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    pub(crate) fn mix(&mut self, value: u64) {
        // Multiply and fold, so that every bit of both values affects every bit of the result.
        let wide = u128::from(self.0 ^ value) * u128::from(ODD);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64) ^ self.0.rotate_left(29);
    }
}

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.mix(ODD);
        last.mix(self.0 >> 32);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, _: u128) {}

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }
}

/// Splits the hash of a lease into one part per node and a shared part, so that nodes can be permuted.
///
/// Its input is the lease's own `Hash`. Sets of nodes are the only values of 16 bits; each bit goes to its
/// node. Discriminants of enums arrive as `isize` and are skipped: in a held lease they only describe the
/// votes of the current renewal, which the sets hold already.
#[derive(Default)]
pub(crate) struct LeaseHasher {
    pub(crate) node_bits: [u64; MAX_NODES],
    set_count: u32,
    pub(crate) shared: FingerprintHasher,
}

impl Hasher for LeaseHasher {
    fn finish(&self) -> u64 {
        self.shared.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.shared.write(bytes);
    }

    fn write_u8(&mut self, value: u8) {
        self.shared.write_u8(value);
    }

    fn write_u16(&mut self, set: u16) {
        assert!(self.set_count < 64, "more than 64 node sets in a lease");
        for (node, bits) in self.node_bits.iter_mut().enumerate() {
            *bits |= u64::from(set >> node & 1) << self.set_count;
        }
        self.set_count += 1;
    }

    fn write_u32(&mut self, value: u32) {
        self.shared.write_u32(value);
    }

    fn write_u64(&mut self, value: u64) {
        self.shared.write_u64(value);
    }

    fn write_u128(&mut self, _: u128) {}

    fn write_usize(&mut self, value: usize) {
        self.shared.write_usize(value);
    }

    fn write_isize(&mut self, _: isize) {}
}

impl Default for FingerprintHasher {
    fn default() -> Self {
        Self::new()
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
