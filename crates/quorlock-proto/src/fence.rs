//! Fencing numbers: what a node gives with a grant, and what a holder shows to the resource it guards.
//!
//! Every grant on a node installs a number there, its *fence*, that is above every earlier one of that key. The
//! number of a lock is the largest of its quorum; it counts once q nodes have it as their fence. Any two quorums share
//! a node, and no node installs a number twice, so numbers never repeat, and they grow from one lock to the next. No
//! clock is needed for that: clocks only choose *which* larger number is installed, so that with sane clocks all nodes
//! choose the same one and no second round is needed.

use std::fmt;
use std::str::FromStr;

use crate::time::DualTimestamp;

/// A number that only grows from one holder of a lock to the next, to hand to the protected resource.
///
/// The rule for a resource: keep the token of the last write that was accepted, and [accept](Self::supersedes) a write
/// only if its number is larger, or the number *and* the nonce are the same. In SQL:
///
/// ```sql
/// UPDATE account SET balance = $1, fence = $2, nonce = $3
///  WHERE id = $4 AND (fence < $2 OR (fence = $2 AND nonce = $3))
/// ```
///
/// Numbers are below 2^53, so that no floating-point column or JSON reader bends them. `Display` and `FromStr` use
/// `number-nonce`, the nonce in 32 hexadecimal digits.
///
/// With the feature `serde` it is a structure of number and nonce, in JSON and other texts with the nonce as a string of
/// 32 hexadecimal digits, as no JSON number is that long; in binary formats the nonce is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FencingToken {
    /// Larger for every later holder.
    pub number: u64,
    /// 128 random bits, for the case that a number is ever given out twice (see the crate's chapter on safety):
    /// even then two holders cannot both write. It opens nothing.
    #[cfg_attr(feature = "serde", serde(with = "digits"))]
    pub nonce: u128,
}

impl FencingToken {
    /// Whether a resource whose last accepted write came with `last` may accept one that comes with this.
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

/// A nonce as it is written: all 32 digits, and no sign, which `from_str_radix` would take.
fn parse_nonce(digits: &str) -> Result<u128, ParseFencingTokenError> {
    if digits.len() != 32 || !is_hex(digits) {
        return Err(ParseFencingTokenError);
    }
    u128::from_str_radix(digits, 16).map_err(|_| ParseFencingTokenError)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The nonce in a serialized token.
#[cfg(feature = "serde")]
mod digits {
    use std::fmt;

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

/// A text that is no fencing token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fencing token: it is written as a number, a dash, and 32 hexadecimal digits")]
pub struct ParseFencingTokenError;

/// The fencing number that goes with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// A grant: the node installs `hint`, if that is above its fence and not too far ahead of its clock, or else the
    /// next number above its fence. In any case above `min_fencing_number`.
    Hint {
        /// The number that we would like.
        hint: u64,
        /// What it must be above.
        min_fencing_number: u64,
    },
    /// Everything later: the lock's number.
    Number(u64),
    /// A break: the number after the one that stands there, whatever that is.
    Next,
}

impl Fence {
    /// What a grant asks for: the time in microseconds, or the next number after the last that was seen, whichever is
    /// larger. Nodes whose clocks agree with ours will all install it.
    #[must_use]
    pub fn hint(now: DualTimestamp, last_seen: u64, min_fencing_number: u64) -> Self {
        let micros = now.wall_nanos() / 1000;
        Self::Hint {
            hint: micros.max(last_seen + 1).max(min_fencing_number + 1).min(MAX_FENCING_NUMBER),
            min_fencing_number,
        }
    }
}

/// The largest min_fencing_number that may be asked for: 2^53 − 2^40. Above it there is room for a million million more locks, and
/// every number stays exact in Lua, in JSON, and in a floating-point column.
pub const MAX_MIN_FENCING_NUMBER: u64 = (1 << 53) - (1 << 40);
/// How far a node lets a hint be ahead of its own clock, and how far behind its clock a key begins that it has no
/// number of.
pub const CLOCK_TOLERANCE_MICROS: u64 = 250_000;
/// Above this nodes give none. A fence that is as large was not made by us, or is the last one.
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
        let may = |number, nonce| FencingToken { number, nonce }.supersedes(&last);
        assert!(may(8, 2) && may(7, 1));
        assert!(!may(7, 2) && !may(6, 1));
    }
}
