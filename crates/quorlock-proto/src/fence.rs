//! Fencing tokens: numbers that grow from one holder to the next and that the protected resource checks.
//!
//! The technique is from Kleppmann, [How to do distributed
//! locking](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), 2016.
//!
//! Each grant on a node installs a number as the node's *fence*, above every earlier one for that key. The
//! number of a lock is the largest of its quorum; it counts once q nodes have it as their fence. Any two
//! quorums share a node, and no node installs a number twice. So numbers never repeat, and they grow from one
//! lock to the next.
//!
//! Clocks are not needed for that. They only choose *which* larger number is installed. If the nodes' clocks
//! agree, all nodes choose the same number, and no second round is needed.

use core::fmt;
use core::str::FromStr;

use crate::time::DualTimestamp;

/// A token for the protected resource; its number grows from one holder of a lock to the next.
///
/// The rule for a resource: keep the token of the last accepted write. [Accept](Self::supersedes) a write only
/// if its number is larger, or the number *and* the nonce are the same. In SQL:
///
/// ```sql
/// UPDATE account SET balance = $1, fence = $2, nonce = $3
///  WHERE id = $4 AND (fence < $2 OR (fence = $2 AND nonce = $3))
/// ```
///
/// Numbers are below 2^53, so floating-point columns and JSON readers keep them exact. `Display` and
/// `FromStr` use `number-nonce`, the nonce in 32 hexadecimal digits.
///
/// With the feature `serde` it is a structure of number and nonce. In JSON and other text formats the nonce
/// is a string of 32 hexadecimal digits, because no JSON number is that long. In binary formats it is a
/// number.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::fence::FencingToken;
/// /// The balance of an account, and the token of the last accepted write.
/// struct Account {
///     balance: i64,
///     last: FencingToken,
/// }
///
/// impl Account {
///     fn set_balance(&mut self, balance: i64, token: FencingToken) -> Result<(), &'static str> {
///         if !token.supersedes(&self.last) {
///             return Err("a later holder of the lock has written");
///         }
///         (self.balance, self.last) = (balance, token);
///         Ok(())
///     }
/// }
/// # let token = |number| FencingToken { number, nonce: 1 };
/// # let mut account = Account { balance: 0, last: token(7) };
/// # assert_eq!((account.set_balance(3, token(8)), account.set_balance(4, token(8))), (Ok(()), Ok(())));
/// # assert!(account.set_balance(5, token(7)).is_err() && account.balance == 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FencingToken {
    /// Larger for every later holder.
    pub number: u64,
    /// 128 random bits, in case a number is ever given out twice (see the crate's chapter on safety): even
    /// then two holders cannot both write. The nonce is no secret.
    #[cfg_attr(feature = "serde", serde(with = "hex_nonce"))]
    pub nonce: u128,
}

impl FencingToken {
    /// Whether a resource that last accepted a write with `last` may accept a write with this token.
    ///
    /// # Examples
    ///
    /// ```
    /// # use quorlock_proto::fence::FencingToken;
    /// let earlier = FencingToken { number: 1732363200123456, nonce: 0xfeed };
    /// let later = FencingToken { number: 1732363200987654, nonce: 0xbeef };
    /// assert!(later.supersedes(&earlier) && !earlier.supersedes(&later));
    /// // One holder may write more than once.
    /// assert!(later.supersedes(&later));
    /// ```
    #[must_use]
    pub const fn supersedes(&self, last: &Self) -> bool {
        self.number > last.number || self.number == last.number && self.nonce == last.nonce
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.number, self.nonce)
    }
}

impl FromStr for FencingToken {
    type Err = ParseFencingTokenError;

    fn from_str(text: &str) -> Result<Self, ParseFencingTokenError> {
        let (number, nonce) = text.split_once('-').ok_or(ParseFencingTokenError)?;
        if !is_hex(number) {
            return Err(ParseFencingTokenError);
        }
        let number = number.parse().map_err(|_| ParseFencingTokenError)?;
        Ok(Self { number, nonce: parse_nonce(nonce)? })
    }
}

/// Parses a nonce: exactly 32 digits without a sign, which `from_str_radix` would accept.
fn parse_nonce(digits: &str) -> Result<u128, ParseFencingTokenError> {
    if digits.len() != 32 || !is_hex(digits) {
        return Err(ParseFencingTokenError);
    }
    u128::from_str_radix(digits, 16).map_err(|_| ParseFencingTokenError)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The serde format of a nonce.
#[cfg(feature = "serde")]
mod hex_nonce {
    use core::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(nonce: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{nonce:032x}"))
        } else {
            serializer.serialize_u128(*nonce)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(HexNonceVisitor)
        } else {
            u128::deserialize(deserializer)
        }
    }

    struct HexNonceVisitor;

    impl Visitor<'_> for HexNonceVisitor {
        type Value = u128;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a nonce of 32 hexadecimal digits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u128, E> {
            super::parse_nonce(text).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
}

/// A text that is not a fencing token.
///
/// # Examples
///
/// ```
/// # use quorlock_proto::fence::{FencingToken, ParseFencingTokenError};
/// let token = "1732363200123456-0000000000000000000000000000feed".parse::<FencingToken>();
/// assert_eq!(token, Ok(FencingToken { number: 1732363200123456, nonce: 0xfeed }));
/// assert_eq!("1732363200123456".parse::<FencingToken>(), Err(ParseFencingTokenError));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fencing token: it is written as a number, a dash, and 32 hexadecimal digits")]
pub struct ParseFencingTokenError;

/// The fencing number in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// For an acquire request. The node installs `hint` if that is above its fence and not too far ahead of
    /// its clock, else the next number above its fence. Either is above `min_fencing_number`.
    Hint {
        /// The preferred number.
        hint: u64,
        /// The number must be above this minimum.
        min_fencing_number: u64,
    },
    /// For every later request: the lock's number.
    Number(u64),
    /// For a forced release: the number after the node's fence.
    Next,
}

impl Fence {
    /// The fence of an acquire request. It prefers the time in microseconds or the number after `last_seen`,
    /// whichever is larger. All nodes whose clocks agree with the client's install it.
    #[must_use]
    pub fn hint(now: DualTimestamp, last_seen: u64, min_fencing_number: u64) -> Self {
        let now_micros = now.wall_nanos() / 1000;
        Self::Hint {
            hint: now_micros.max(last_seen + 1).max(min_fencing_number + 1).min(MAX_FENCING_NUMBER),
            min_fencing_number,
        }
    }
}

/// The largest minimum fencing number that can be configured: 2^53 − 2^40. That leaves numbers for 10^12 more
/// locks, all exact in Lua, in JSON and in a floating-point column.
pub const MAX_MIN_FENCING_NUMBER: u64 = (1 << 53) - (1 << 40);
/// How far a node lets a hint be ahead of its own clock. A key without a number starts this far behind the
/// node's clock.
pub const CLOCK_TOLERANCE_MICROS: u64 = 250_000;
/// The largest number that nodes give. A fence at or above it is the last number, or was not written by
/// quorlock.
pub const MAX_FENCING_NUMBER: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_parses_only_from_the_text_of_its_display() {
        let token = FencingToken { number: 1_732_000_000_000_000, nonce: 0xfeed };
        assert_eq!(token.to_string(), "1732000000000000-0000000000000000000000000000feed");
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in
            ["", "1", "1-2", "-1-0000000000000000000000000000feed", "+1-0000000000000000000000000000feed"]
        {
            assert_eq!(bad.parse::<FencingToken>(), Err(ParseFencingTokenError), "{bad}");
        }
    }

    #[test]
    fn a_token_supersedes_a_smaller_number_and_an_equal_token() {
        let last = FencingToken { number: 7, nonce: 1 };
        let accepts = |number, nonce| FencingToken { number, nonce }.supersedes(&last);
        assert!(accepts(8, 2) && accepts(7, 1));
        assert!(!accepts(7, 2) && !accepts(6, 1));
    }
}
