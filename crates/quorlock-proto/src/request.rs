//! What is asked for, and the question put to a node.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::fence::Fence;
use crate::lease_params::LeaseParams;

/// A lock that is asked for: which key, on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockSpec {
    /// The key on every node.
    pub key: Key,
    /// For how long, and how patiently.
    pub params: LeaseParams,
    /// Whether a refusal should tell for how long the holder's key still lives. Plain `SET NX` does not say,
    /// so it costs the refused contender (never the winner) a `PTTL`.
    pub want_holder_ttl: bool,
    /// What a fencing number must be above, because the resource has seen that many; 0 if it has seen none.
    pub min_fencing_number: u64,
}

/// A lock's key on the nodes: prefix and name, verbatim.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of these characters. Checked by whoever takes names from people.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(Arc::from(key))
    }

    /// The same key, to be kept by others.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The key as it stands on the nodes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest key, in bytes. Each question about a lock carries it two or three times, before those of all other locks on
/// the same connection.
pub const MAX_KEY_BYTES: usize = 1 << 16;

/// The value that shows whose a key is: random, and fresh for **every attempt**.
///
/// Reusing one across attempts breaks exclusion with perfect clocks and no crash: a release of the first
/// attempt that arrives late deletes the grant of the second. Who knows it can release the lock, so it is a
/// secret: `Debug` shows a short hash only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// The token of these bits, which must be drawn from the operating system's randomness.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// As it stands on the nodes: 32 hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 0xf)];
        }
        digits
    }

    /// A short hash to tell owners apart in logs; it opens nothing.
    #[must_use]
    pub fn hash(&self) -> OwnerHash {
        OwnerHash::of(&self.digits())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// As the one number of its width, by which the models know it.
impl Hash for OwnerToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_be_bytes(self.0));
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(#{})", self.hash())
    }
}

/// A short hash of an owner's token: equal for equal owners, of no use for releasing their lock.
///
/// In bytes, for it is in a [`RequestKind`], of which every held lock has one: a number would be laid out in steps of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerHash([u8; 4]);

impl OwnerHash {
    /// The mark of the value found under a key (FNV-1a, folded to 32 bits). `lua/force_release.lua` computes the same.
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

/// As it is shown: eight hexadecimal digits, with a `#` in front or without.
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

/// What was read is no mark of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseOwnerHashError;

impl fmt::Display for ParseOwnerHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the hash of a holder: eight hexadecimal digits, such as #45bf80c1")
    }
}

impl std::error::Error for ParseOwnerHashError {}

/// One question, put to some nodes at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked.
    pub kind: RequestKind,
    /// About which key.
    pub key: Key,
    /// In whose name. Of no meaning where nothing is set or compared.
    pub token: OwnerToken,
    /// For how long, where the question sets an expiry; since how long, where it stands in line.
    pub ttl: Duration,
    /// The fencing number that goes with it. Without one, a question is the plain one of its kind.
    pub fence: Option<Fence>,
}

/// What can be asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// `SET key token NX PX ttl`: a first vote.
    Acquire,
    /// `PTTL key`: how long the one who has it may keep it.
    QueryTtl,
    /// Compare, and lengthen the expiry: never shortens, never creates.
    Renew,
    /// Compare, and make the node's fence our number: the second round of an acquisition, never in plain mode.
    RaiseFence,
    /// `SET key token NX PX ttl` again, on a node where our key has gone missing.
    Reacquire,
    /// Compare and delete.
    Release,
    /// The same, and call the process that has waited longest.
    ReleaseAndNotify,
    /// The same, and tell whether another process waits: the next here goes before it.
    ReleaseLocal,
    /// Stand in line for a key: is it free, or for how long may the one who has it keep it.
    Enqueue,
    /// Leave the line.
    Dequeue,
    /// Whose is it, and for how long.
    Inspect,
    /// Delete, whoever has it; where numbers are given, also make the node's fence larger than the holder's.
    ForceRelease,
    /// The same, but only where its owner's token has this mark. Nothing is done where another's key stands, or none.
    BreakOf(OwnerHash),
    /// Forget the number of a key that is free.
    Forget,
    /// What the node remembers of its cluster. About no key.
    ReadMarker,
}

impl RequestKind {
    /// Whether it compares and deletes, whoever is called or not.
    #[must_use]
    pub const fn is_release(self) -> bool {
        matches!(self, Self::Release | Self::ReleaseAndNotify | Self::ReleaseLocal)
    }

    /// Whether it deletes a key in nobody's name.
    #[must_use]
    pub const fn is_force_release(self) -> bool {
        matches!(self, Self::ForceRelease | Self::BreakOf(_))
    }
}
