//! An option or a name that is not valid.

use std::fmt;

use super::key::lock;
use quorlock_proto::lease_params::InvalidLeaseParams;
use quorlock_proto::quorum::InvalidQuorum;
use quorlock_proto::request::Key as LockName;

/// An option or a name that is not valid. No request was sent.
///
/// [`option`](Self::option) says which, [`kind`](Self::kind) what is wrong, and the text what to do.
///
/// # Examples
///
/// ```
/// use quorlock::{Redlock, error::InvalidInputKind};
///
/// let invalid = Redlock::builder().nodes(["redis://a", "redis://a"]).check().unwrap_err();
/// assert_eq!((invalid.option(), invalid.kind()), (Some("nodes"), InvalidInputKind::Duplicate));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidInput {
    pub(super) key: Option<LockName>,
    option: Option<&'static str>,
    kind: InvalidInputKind,
    message: Box<str>,
}

/// What is wrong with an option or a name.
///
/// # Examples
///
/// ```
/// use quorlock::{Redlock, error::InvalidInputKind};
///
/// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]);
/// match builder.check_lock("quorlock:nightly", None, 0) {
///     Ok(()) => println!("valid"),
///     Err(invalid) if invalid.kind() == InvalidInputKind::Reserved => println!("choose another prefix"),
///     Err(invalid) => println!("{invalid}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidInputKind {
    /// It is empty.
    Empty,
    /// It is too large, too small or too long.
    OutOfRange,
    /// It cannot be parsed, or has characters that are not allowed.
    Malformed,
    /// It starts with the prefix of this library's own keys.
    Reserved,
    /// It is given twice.
    Duplicate,
    /// It cannot go together with another option, or would have no effect.
    Conflict,
    /// A file could not be read or used.
    UnusableFile,
}

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

    pub(in super::super) fn new(kind: InvalidInputKind, message: impl Into<String>) -> Self {
        Self { key: None, option: None, kind, message: message.into().into_boxed_str() }
    }

    /// Adds the builder option that the error is about.
    pub(in super::super) fn of(self, option: &'static str) -> Self {
        Self { option: Some(option), ..self }
    }

    /// The option whose value is not valid, such as `quorum` or `ttl`: a method of
    /// [`RedlockBuilder`](crate::RedlockBuilder) or [`Mutex`](crate::Mutex). It is `name` for the name of a lock,
    /// `tls_client_key` for the key that was given to `tls_client_certificate`, and `to` for the nodes after a
    /// [reconfiguration](crate::RedlockBuilder::reconfigure). `None` if the error is not about one option.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let invalid = Redlock::builder().nodes(["redis://10.0.0.1"]).quorum(3).check().unwrap_err();
    /// assert_eq!(invalid.option(), Some("quorum"));
    /// ```
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        self.option
    }

    /// What is wrong with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::{Redlock, error::InvalidInputKind};
    ///
    /// let invalid = Redlock::builder().nodes(["http://10.0.0.1"]).check().unwrap_err();
    /// assert_eq!(invalid.kind(), InvalidInputKind::Malformed);
    /// ```
    #[must_use]
    pub const fn kind(&self) -> InvalidInputKind {
        self.kind
    }

    /// Adds the key of the lock that the error is about.
    pub(in super::super) fn about(self, key: &LockName) -> Self {
        Self { key: Some(key.clone()), ..self }
    }
}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{}: ", lock(key))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidInput {}

impl From<InvalidLeaseParams> for InvalidInput {
    fn from(invalid: InvalidLeaseParams) -> Self {
        Self::new(InvalidInputKind::OutOfRange, invalid.to_string())
    }
}

impl From<InvalidQuorum> for InvalidInput {
    fn from(invalid: InvalidQuorum) -> Self {
        let kind = match invalid {
            InvalidQuorum::NoNodes => InvalidInputKind::Empty,
            _ => InvalidInputKind::OutOfRange,
        };
        Self::new(kind, invalid.to_string())
    }
}
