//! A reproducible random number generator: the same seed always gives the same numbers, on every machine.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A `SplitMix64` generator (Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct SeededRng(SplitMix64);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// A separate generator for a part of the work, so that parts do not change each other's numbers.
    pub(crate) fn for_part(seed: u64, part: u64) -> Self {
        let mut seeds = Self::new(seed ^ part.wrapping_mul(GOLDEN));
        Self::new(seeds.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        debug_assert!(from <= to, "the range is empty");
        // The tiny bias to small numbers does not matter here.
        from + self.next() % (to - from + 1)
    }

    /// Draws true with this chance, in percent.
    pub(crate) fn draw_chance(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of these items. There must be at least one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.between(0, items.len() as u64 - 1) as usize]
    }

    /// Shuffles the items.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between(0, last as u64) as usize);
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut rng = SeededRng::new(0);
        // The first numbers of the published reference implementation.
        assert_eq!(
            [rng.next(), rng.next(), rng.next()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
        );
        let mut rng = SeededRng::for_part(7, 2);
        assert_eq!([(); 4].map(|()| rng.between(1, 1000)), [749, 757, 300, 331]);
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        rng.shuffle(&mut items);
        assert_eq!(items, [6, 7, 0, 3, 4, 1, 2, 5]);
    }

    #[test]
    fn a_shuffle_keeps_all_items_and_numbers_are_in_range() {
        let mut rng = SeededRng::new(7);
        let mut items: Vec<u64> = (0..20).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
        let numbers: Vec<u64> = (0..200).map(|_| rng.between(3, 5)).collect();
        assert!([3, 4, 5].iter().all(|number| numbers.contains(number)));
        assert!(numbers.iter().all(|number| (3..=5).contains(number)));
    }
}
