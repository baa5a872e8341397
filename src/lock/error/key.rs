//! The lock that an error is about.

use super::{AcquireError, ExtendError, ForgetError, InspectError, InvalidInput, ReleaseError, RunError};

impl InvalidInput {
    /// The lock's key on the nodes, prefix and name; `None` if the error is not about one lock.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl AcquireError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Contended { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::OnProbation { key, .. }
            | Self::NodesExcluded { key, .. }
            | Self::TooLate { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl ExtendError {
    /// The lock's key on the nodes, prefix and name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Lost { key }
            | Self::NoQuorum { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl ReleaseError {
    /// The lock's key on the nodes, prefix and name.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::NoQuorum { key, .. } | Self::NoDriver { key, .. } | Self::Closed { key } => key,
        }
    }
}

impl InspectError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::NoDriver { key, .. } | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl ForgetError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::HeldByOthers { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl RunError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Acquire(error) => error.key(),
            Self::Lost { key } => Some(key),
        }
    }
}

/// Formats a lock's key for messages: quoted, and cut if it is longer than `MAX_SHOWN` characters.
pub(super) fn lock(key: &str) -> String {
    match key.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("lock {:?}… ({} bytes)", &key[..end], key.len()),
        None => format!("lock {key:?}"),
    }
}

/// The limit, in characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::lock;

    #[test]
    fn long_names_are_truncated_in_messages() {
        assert_eq!(lock("nightly"), "lock \"nightly\"");
        let long = "é".repeat(30_000);
        let shown = lock(&long);
        assert!(shown.len() < 500 && shown.ends_with("é\"… (60000 bytes)"), "{shown}");
        assert_eq!(lock(&"é".repeat(200)).matches('é').count(), 200);
    }
}
