//! Locks, keys, owner tokens, and the requests to nodes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::hash::{Hash, Hasher};
use core::str::FromStr;
use core::time::Duration;

use crate::fence::Fence;
use crate::lease_params::LeaseParams;

/// The id of an operation, to which requests belong. The caller chooses it and uses no id twice.
pub type OperationId = u64;

/// The lock that an attempt acquires: its key and its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockSpec {
    /// The key on every node.
    pub key: Key,
    /// The ttl, the timeouts and the clock drift.
    pub params: LeaseParams,
    /// Whether a contended attempt reports how long the holder's key still lives. Plain `SET NX` does not
    /// return it, so the contender that failed (never the winner) also sends a `PTTL`.
    pub want_holder_ttl: bool,
    /// The fencing number must be above this, because the protected resource has seen it; 0 if it has seen
    /// none.
    pub min_fencing_number: u64,
    /// For an adoption: the owner from which it takes the lock. `None` for a free lock. Boxed, because it is rare.
    pub previous_owner: Option<Box<PreviousOwner>>,
}

impl LockSpec {
    /// The fencing number must be above this: the minimum, and the number of the previous owner.
    #[must_use]
    pub fn numbers_above(&self) -> u64 {
        let previous = self.previous_owner.as_ref().and_then(|owner| owner.fencing_number);
        self.min_fencing_number.max(previous.unwrap_or(0))
    }
}

/// The owner of a lock that is handed over: what a ticket carries, and what an adoption takes the lock from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreviousOwner {
    /// The owner token that a key must have to be adopted.
    pub token: OwnerToken,
    /// The fencing number; `None` in plain mode. A node with a larger fence does not count for the adoption,
    /// because a later holder may have had the lock.
    pub fencing_number: Option<u64>,
}

/// A lock's key on the nodes: prefix and name, verbatim. Any bytes, so not always text.
///
/// `Display` shows it on one line, as inside a Rust string literal. It escapes double quotes, backslashes, combining
/// marks, characters that do not print, and bytes that are no UTF-8. The key is shared, so clones are cheap.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::request::Key as LockName;
/// let name = LockName::new("café \"x\" 'y' \\ e\u{301}\n");
/// assert_eq!(name.to_string(), r#"café \"x\" 'y' \\ e\u{301}\n"#);
/// assert_eq!(LockName::new(b"\xff\x00").to_string(), r"\xff\0");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key with these bytes. It is not checked here; a lock's name is checked when the lock is used.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::request::Key as LockName;
    /// let names = [LockName::new("orders:42"), LockName::new([0xff, 0x00])];
    /// assert_eq!(names.map(|name| name.to_string()), ["orders:42", r"\xff\0"]);
    /// ```
    #[must_use]
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self(Arc::from(key.as_ref()))
    }

    /// The key as stored on the nodes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::request::Key as LockName;
    /// let name = LockName::new("orders:42");
    /// assert!(name.as_bytes().starts_with(b"orders:"));
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text; `None` if it is no UTF-8.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::request::Key as LockName;
    /// assert_eq!(LockName::new("orders:42").to_str(), Some("orders:42"));
    /// assert_eq!(LockName::new([0xff, 0x00]).to_str(), None);
    /// ```
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    // As in a Rust string, but for the characters that need no escape in print.
                    '\'' => f.write_char(char)?,
                    _ => write!(f, "{}", char.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Key {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Key {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// The longest key, in bytes. Each request carries its key two or three times, and delays all later requests
/// on the same connection.
pub const MAX_KEY_BYTES: usize = 1 << 16;

/// The value under a lock's key that identifies its owner: random, and new for **every attempt**.
///
/// A token that is used again breaks mutual exclusion even with perfect clocks and no crash: a late release
/// of the first attempt deletes the grant of the second. A process that knows the token can release the lock.
/// So the token is a secret, and `Debug` shows only a short hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// The token of these bits, which must come from the operating system's random source.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// The token as stored on the nodes: 32 hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        digits
    }

    /// A short hash that tells owners apart in logs. It cannot release a lock.
    #[must_use]
    pub fn hash(&self) -> OwnerHash {
        OwnerHash::of(&self.digits())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Hashes as one `u128`, by which the models recognize it.
impl Hash for OwnerToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_be_bytes(self.0));
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerToken(#{})", self.hash())
    }
}

/// A short hash of an owner token: equal for equal owners; it cannot release their lock.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::request::OwnerHash;
/// // An operator has copied it from a log.
/// let owner: OwnerHash = "#45bf80c1".parse()?;
/// assert_eq!(owner.to_string(), "45bf80c1");
/// # Ok::<(), quorlock_proto::request::ParseOwnerHashError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
// Bytes, because every held lock has a `RequestKind` that may contain it: a number would be aligned to four bytes.
pub struct OwnerHash([u8; 4]);

impl OwnerHash {
    /// The hash of the value under a key (FNV-1a, folded to 32 bits). `lua/force_release.lua` computes the
    /// same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::request::OwnerHash;
    /// // The value under the lock's key, as `redis-cli get orders:42` shows it.
    /// let owner = OwnerHash::of(b"8f3c6b1e0d5a47c2b9e4f1a2d3c4b5a6");
    /// println!("held by #{owner}");
    /// ```
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(((hash >> 32) as u32 ^ hash as u32).to_be_bytes())
    }
}

impl fmt::Display for OwnerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Parses what `Display` shows: eight hexadecimal digits, with or without a `#` in front.
impl FromStr for OwnerHash {
    type Err = ParseOwnerHashError;

    fn from_str(text: &str) -> Result<Self, ParseOwnerHashError> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseOwnerHashError);
        }
        u32::from_str_radix(digits, 16).map(|bits| Self(bits.to_be_bytes())).map_err(|_| ParseOwnerHashError)
    }
}

/// The text is not an owner hash.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::request::OwnerHash;
/// match "45bf".parse::<OwnerHash>() {
///     Ok(owner) => println!("#{owner}"),
///     Err(error) => eprintln!("--holder: {error}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseOwnerHashError;

impl fmt::Display for ParseOwnerHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the hash of a holder: eight hexadecimal digits, such as #45bf80c1")
    }
}

impl core::error::Error for ParseOwnerHashError {}

/// As the text that `Display` shows.
#[cfg(feature = "serde")]
impl serde::Serialize for OwnerHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As the text that `Display` shows.
#[cfg(feature = "serde")]
impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One request, sent to several nodes at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What the node does.
    pub kind: RequestKind,
    /// The key.
    pub key: Key,
    /// The owner token. Unused where nothing is set or compared.
    pub token: OwnerToken,
    /// The ttl, where the request sets an expiry. In a wait queue, how long the process has waited.
    pub ttl: Duration,
    /// The fencing number, or how to choose it. Without one it is the plain request of its kind.
    pub fence: Option<Fence>,
    /// For `Adopt`: the owner from which the key is taken.
    pub previous_owner: Option<Box<PreviousOwner>>,
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// `SET key token NX PX ttl`: the first round of an acquire.
    Acquire,
    /// If the previous owner's token matches, replaces it by the owner token, with a new expiry. It is the
    /// first round of an adoption, and never creates a key.
    Adopt,
    /// `PTTL key`: how long the holder's key still lives.
    QueryTtl,
    /// If the owner token matches, extends the expiry. It never shortens an expiry and never creates a key.
    Renew,
    /// If the owner token matches, raises the node's fence to the lock's fencing number. This is the second
    /// round of an acquire in fenced mode: the write-back phase of ABD registers (Attiya, Bar-Noy, Dolev
    /// 1995).
    RaiseFence,
    /// `SET key token NX PX ttl` again, on a node where the lock's key is missing.
    Reacquire,
    /// If the owner token matches, deletes the key.
    Release,
    /// A [`Release`](Self::Release) that also notifies the process that has waited longest.
    ReleaseAndNotify,
    /// A [`Release`](Self::Release) for the next task of this process. Replies whether another process waits.
    ReleaseLocal,
    /// Enters the key's wait queue. Replies whether the key is free, or how long it still lives.
    Enqueue,
    /// Leaves the wait queue.
    Dequeue,
    /// Reads the key's owner and remaining ttl.
    Inspect,
    /// Deletes the key of any owner. In fenced mode it also raises the node's fence above the holder's
    /// number.
    ForceRelease,
    /// A [`ForceRelease`](Self::ForceRelease) only if the owner token has this hash. Otherwise it does nothing.
    BreakOf(OwnerHash),
    /// Removes the fence of a free key.
    Forget,
    /// Reads the node's marker. It has no key.
    ReadMarker,
}

impl RequestKind {
    /// Whether it deletes the key of one owner token, with or without a notification.
    #[must_use]
    pub const fn is_release(self) -> bool {
        matches!(self, Self::Release | Self::ReleaseAndNotify | Self::ReleaseLocal)
    }

    /// Whether it is the first request of an attempt, to which a grant can come late.
    #[must_use]
    pub const fn is_first_round(self) -> bool {
        matches!(self, Self::Acquire | Self::Adopt)
    }

    /// Whether it deletes a key without knowing the owner token.
    #[must_use]
    pub const fn is_force_release(self) -> bool {
        matches!(self, Self::ForceRelease | Self::BreakOf(_))
    }
}
