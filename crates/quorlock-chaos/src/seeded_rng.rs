//! A reproducible random number generator: the same seed gives the same numbers, on every machine and forever.

/// A small generator of random numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct SeededRng {
    state: u64,
}

impl SeededRng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator of its own for a part of the work, so that the parts do not change each other's numbers.
    pub(crate) fn of_part(seed: u64, part: u64) -> Self {
        let mut whole = Self::new(seed ^ part.wrapping_mul(GOLDEN));
        Self::new(whole.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        debug_assert!(from <= to, "a range that is none");
        // The tiny preference for small numbers does no harm here.
        from + self.next() % (to - from + 1)
    }

    /// True so many times out of a hundred.
    pub(crate) fn percent(&mut self, of_100: u64) -> bool {
        self.between(1, 100) <= of_100
    }

    /// One of these, of which there must be some.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.between(0, of.len() as u64 - 1) as usize]
    }

    /// These in any order.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.between(0, last as u64) as usize);
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_numbers_that_it_always_gave() {
        let mut chance = SeededRng::new(0);
        // The first numbers of the published reference implementation.
        assert_eq!(
            [chance.next(), chance.next(), chance.next()],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
        );
    }

    #[test]
    fn a_shuffle_loses_nothing_and_a_range_is_kept() {
        let mut chance = SeededRng::new(7);
        let mut all: Vec<u64> = (0..20).collect();
        chance.shuffle(&mut all);
        assert_ne!(all, (0..20).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        let numbers: Vec<u64> = (0..200).map(|_| chance.between(3, 5)).collect();
        assert!([3, 4, 5].iter().all(|number| numbers.contains(number)));
        assert!(numbers.iter().all(|number| (3..=5).contains(number)));
    }
}
