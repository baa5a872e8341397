//! The lock that an error is about.

use super::{ExtendError, ForgetError, InspectError, InvalidInput, ReleaseError, RunError};
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::Key as LockName;

impl InvalidInput {
    /// The lock's key on the nodes, prefix and name; `None` if the error is not about one lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::{LockName, Redlock};
    ///
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).key_prefix("billing:");
    /// let invalid = builder.check_lock("invoice:7", None, u64::MAX).unwrap_err();
    /// assert_eq!(invalid.key(), Some(&LockName::new("billing:invoice:7")));
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        self.key.as_ref()
    }
}

impl ExtendError {
    /// The lock's key on the nodes, prefix and name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.extend(std::time::Duration::from_secs(20)).await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not extended");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
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
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.release().await {
    ///     tracing::warn!(lock = %error.key(), %error, "lost");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> &LockName {
        match self {
            Self::Lost { key, .. } => key,
        }
    }

    /// Why the lock was lost.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::event::LossReason;
    ///
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = guard.release().await
    ///     && error.reason() == LossReason::TakenByOthers
    /// {
    ///     eprintln!("another process may have held it at the same time");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reason(&self) -> LossReason {
        match self {
            Self::Lost { reason, .. } => *reason,
        }
    }
}

impl InspectError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.inspect("nightly").await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not inspected");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::NoDriver { key, .. } | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl ForgetError {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.forget("order:81723").await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not forgotten");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::HeldByOthers { key, .. }
            | Self::NoQuorum { key, .. }
            | Self::NoDriver { key, .. }
            | Self::Closed { key } => Some(key),
            Self::InvalidInput(invalid) => invalid.key(),
        }
    }
}

impl<E> RunError<E> {
    /// The lock's key on the nodes, prefix and name; `None` if no name was given, or the work failed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn job() -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Err(error) = redlock.mutex("nightly").run(async |_| job().await).await {
    ///     tracing::warn!(lock = ?error.key(), %error, "not done");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&LockName> {
        match self {
            Self::Acquire(error) => error.key(),
            Self::Lost { key, .. } => Some(key),
            Self::Work(_) => None,
        }
    }
}

/// Formats a lock's key for messages: quoted, and cut if it is longer than `MAX_SHOWN` characters.
pub(super) fn lock(key: &LockName) -> String {
    let text = key.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("lock \"{}\"… ({} bytes)", &text[..end], key.as_bytes().len()),
        None => format!("lock \"{text}\""),
    }
}

/// The limit, in characters.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_truncated_in_messages() {
        assert_eq!(lock(&LockName::new("nightly")), "lock \"nightly\"");
        let long = "é".repeat(30_000);
        let shown = lock(&LockName::new(&long));
        assert!(shown.len() < 500 && shown.ends_with("é\"… (60000 bytes)"), "{shown}");
        assert_eq!(lock(&LockName::new("é".repeat(200))).matches('é').count(), 200);
    }
}
