//! What fencing numbers cost a node.

/// About how many fencing numbers a node keeps, and what they take of its memory: each name that was locked lately is
/// remembered ([`fencing_retention`](crate::RedlockBuilder::fencing_retention)). A guess from fifty of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fences {
    /// How many.
    pub count: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// How many bytes the node has for all its keys (`maxmemory`); `None` if no limit is set.
    pub memory: Option<u64>,
}

impl Fences {
    pub(super) fn new(count: u64, key_length: u64, memory: u64) -> Self {
        let bytes = count.saturating_mul(BYTES_BESIDE_KEY + key_length);
        Self { count, bytes, memory: (memory > 0).then_some(memory) }
    }

    /// What share of the node's memory they take; `None` if no limit is set.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        self.memory.map(|memory| self.bytes as f64 / memory as f64)
    }

    /// What to say of so many, if they are too many.
    pub(crate) fn warning(&self) -> Option<String> {
        let share = self.share().filter(|share| *share >= WARNING_SHARE)?;
        let percent = (share * 100.0).round();
        Some(format!(
            "about {} fencing numbers take {percent} % of its maxmemory, and all locks stop when it is full: forget names \
             that do not come again (`quorlock forget`), keep numbers for a shorter time (--fencing-retention), or raise \
             maxmemory",
            self.count
        ))
    }
}

/// The key's own object, its entry and its expiry, and a number. Measured on Redis 7.0 with a million fences: 128, 144 and
/// 176 bytes each, with keys of 23, 39 and 75.
const BYTES_BESIDE_KEY: u64 = 105;
/// From which share of the memory on they are worth a word.
const WARNING_SHARE: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_that_take_a_quarter_of_the_memory_cause_a_warning() {
        let of = |count, memory| Fences::new(count, 25, memory);
        assert_eq!((of(1_000_000, 0).share(), of(1_000_000, 0).warning()), (None, None));
        assert_eq!(of(1_000, 1 << 30).warning(), None);
        let words = of(1_000_000, 500_000_000).warning().expect("more than a quarter");
        assert!(words.starts_with("about 1000000 fencing numbers take 26 %"), "{words}");
        assert!(of(u64::MAX, 1).warning().is_some());
    }
}
