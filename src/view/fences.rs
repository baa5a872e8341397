//! The memory cost of fencing numbers on a node.

/// The estimated number and memory use of the fencing numbers on a node. It keeps one for each name that was
/// locked within the [`fencing_retention`](crate::RedlockBuilder::fencing_retention). The estimate samples
/// fifty of its keys.
///
/// # Examples
///
/// ```no_run
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     if let Some(fences) = node.fences {
///         println!("{} remembers {} names in {} bytes", node.address, fences.count, fences.bytes);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fences {
    /// The number of fencing numbers.
    pub count: u64,
    /// Their memory use in bytes.
    pub bytes: u64,
    /// The node's memory limit in bytes (`maxmemory`); `None` if no limit is set.
    pub memory: Option<u64>,
}

impl Fences {
    pub(crate) fn new(count: u64, key_length: u64, memory: u64) -> Self {
        let bytes = count.saturating_mul(BYTES_WITHOUT_KEY + key_length);
        Self { count, bytes, memory: (memory > 0).then_some(memory) }
    }

    /// Their share of the node's memory limit; `None` if no limit is set.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// for node in redlock.node_status().await {
    ///     if let Some(share) = node.fences.and_then(|fences| fences.share()) {
    ///         println!("{}: {:.1} % of maxmemory", node.address, share * 100.0);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        self.memory.map(|memory| self.bytes as f64 / memory as f64)
    }

    /// Whether they take so much memory that a warning is due.
    pub(crate) fn are_too_large(self) -> bool {
        self.share().is_some_and(|share| share >= WARNING_SHARE)
    }
}

/// Bytes for the key object, its entry, its expiry and the number. Measured on Redis 7.0 with a million
/// fences: 128, 144 and 176 bytes each, with keys of 23, 39 and 75 bytes.
const BYTES_WITHOUT_KEY: u64 = 105;
/// From this share of the memory limit on, there is a warning.
const WARNING_SHARE: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::super::node_warning::NodeWarning;
    use super::*;

    #[test]
    fn fences_that_take_a_quarter_of_the_memory_cause_a_warning() {
        let fences = |count, memory| Fences::new(count, 25, memory);
        assert_eq!((fences(1_000_000, 0).share(), fences(1_000_000, 0).are_too_large()), (None, false));
        assert!(!fences(1_000, 1 << 30).are_too_large());
        let many = fences(1_000_000, 500_000_000);
        assert!(many.are_too_large());
        let warning = NodeWarning::FencesTooLarge(many).to_string();
        assert!(warning.starts_with("about 1000000 fencing numbers take 26 %"), "{warning}");
        assert!(fences(u64::MAX, 1).are_too_large());
    }
}
