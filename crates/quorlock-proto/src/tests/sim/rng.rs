//! A seeded random number generator with the same sequence on every machine.

use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The generator xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64.
#[derive(Clone, Debug)]
pub(super) struct SeededRng(Xoshiro256StarStar);

impl SeededRng {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256StarStar::seed_from_u64(seed))
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From 0 to `end` − 1.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// From `min` to `max`, both inclusive.
    pub(super) fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max - min + 1)
    }

    /// From `min` to `max`, with each power of two equally likely.
    pub(super) fn log_uniform(&mut self, min: u64, max: u64) -> u64 {
        let (from, to) = (min.max(1).ilog2(), max.max(1).ilog2());
        let size = 1_u64 << self.between(u64::from(from), u64::from(to));
        self.between(size, size * 2 - 1).clamp(min, max)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// True with a probability of this many in a thousand.
    pub(super) fn chance_permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

#[test]
fn the_numbers_of_a_seed_never_change() {
    let mut rng = SeededRng::new(0);
    // The first numbers of the published reference implementation.
    assert_eq!(
        [rng.next_u64(), rng.next_u64(), rng.next_u64()],
        [0x99ec_5f36_cb75_f2b4, 0xbf6e_1f78_4956_452a, 0x1a5f_849d_4933_e6e0]
    );
    let mut rng = SeededRng::new(7);
    assert_eq!([(); 4].map(|()| rng.below(1000)), [700, 278, 839, 981]);
    assert_eq!([(); 3].map(|()| rng.log_uniform(100, 1_000_000)), [981_872, 100, 2_358]);
}
