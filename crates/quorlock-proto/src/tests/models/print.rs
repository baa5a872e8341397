//! From a state to its fingerprint.

use std::hash::Hasher;

use super::state::MOST_NODES;

/// Folds values into 64 bits, the same on every run.
///
/// Tokens are the only values of 128 bits in a machine. They are left out: they are names, and whose a key is, is told
/// by the place of the owner.
#[derive(Clone, Copy)]
pub(crate) struct Print(u64);

impl Print {
    pub(crate) const fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    pub(crate) fn add(&mut self, value: u64) {
        // Multiply and fold: every bit of both reaches every bit of the result.
        let wide = u128::from(self.0 ^ value) * u128::from(ODD);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64) ^ self.0.rotate_left(29);
    }
}

impl Hasher for Print {
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.add(ODD);
        last.add(self.0 >> 32);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_u128(&mut self, _: u128) {}

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.add(value as u64);
    }
}

/// Takes a lease apart into what belongs to each node and what does not, so that nodes can be renamed.
///
/// It is fed what the lease's own `Hash` gives. Sets of nodes are the only values of 16 bits: their bits go to the
/// nodes. Which variant an enum has comes as an `isize` and is left out: in a lease that is held it only tells the
/// votes of the renewal under way, and those are in the sets already.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) nodes: [u64; MOST_NODES],
    sets: u32,
    pub(crate) rest: Print,
}

impl Hasher for Parts {
    fn finish(&self) -> u64 {
        self.rest.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.rest.write(bytes);
    }

    fn write_u8(&mut self, value: u8) {
        self.rest.write_u8(value);
    }

    fn write_u16(&mut self, set: u16) {
        assert!(self.sets < 64, "more sets than there is room for");
        for (at, node) in self.nodes.iter_mut().enumerate() {
            *node |= u64::from(set >> at & 1) << self.sets;
        }
        self.sets += 1;
    }

    fn write_u32(&mut self, value: u32) {
        self.rest.write_u32(value);
    }

    fn write_u64(&mut self, value: u64) {
        self.rest.write_u64(value);
    }

    fn write_u128(&mut self, _: u128) {}

    fn write_usize(&mut self, value: usize) {
        self.rest.write_usize(value);
    }

    fn write_isize(&mut self, _: isize) {}
}

impl Default for Print {
    fn default() -> Self {
        Self::new()
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
