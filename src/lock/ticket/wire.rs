//! The serialized form of a ticket.

use std::fmt;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::LockTicket;
use crate::lock::limits::RESERVED;
use quorlock_proto::fence::{FencingToken, MAX_MIN_FENCING_NUMBER};
use quorlock_proto::lease_params::{Drift, LeaseParams};
use quorlock_proto::request::{Key, MAX_KEY_BYTES, OwnerToken};

/// The fields of a ticket as they are sent.
#[derive(Serialize, Deserialize)]
#[serde(rename = "LockTicket")]
pub(super) struct WireTicket {
    version: u32,
    /// In hexadecimal digits, because a key may be any bytes.
    key: String,
    /// In 32 hexadecimal digits.
    owner_token: String,
    ttl_ms: u64,
    fencing_token: Option<FencingToken>,
    expires_at_ms: u64,
}

/// Why a serialized ticket is not valid. It repeats no value, because the ticket is a secret.
#[derive(Debug)]
pub(super) struct InvalidTicket(&'static str);

impl fmt::Display for InvalidTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid ticket: {}", self.0)
    }
}

impl From<LockTicket> for WireTicket {
    fn from(ticket: LockTicket) -> Self {
        Self {
            version: VERSION,
            key: hex(ticket.key.as_bytes()),
            owner_token: String::from_utf8_lossy(&ticket.owner_token.digits()).into_owned(),
            ttl_ms: ticket.ttl.as_millis() as u64,
            fencing_token: ticket.fencing_token,
            expires_at_ms: ticket.expires_at_millis,
        }
    }
}

/// Reads the fields, and discards the error of a field that is missing or has another type: it would repeat values, and
/// those of a ticket are secret.
impl<'de> Deserialize<'de> for LockTicket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireTicket::deserialize(deserializer);
        let ticket = wire.map_err(|_| OTHER_VERSION).and_then(Self::try_from);
        ticket.map_err(Error::custom)
    }
}

/// Checks every field, because the ticket comes from outside. Nothing that the client computes from it later can overflow.
impl TryFrom<WireTicket> for LockTicket {
    type Error = InvalidTicket;

    fn try_from(wire: WireTicket) -> Result<Self, InvalidTicket> {
        if wire.version != VERSION {
            return Err(OTHER_VERSION);
        }
        let key = from_hex(&wire.key).ok_or(InvalidTicket("`key` is not in hexadecimal digits"))?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.starts_with(RESERVED.as_bytes()) {
            return Err(InvalidTicket("`key` is empty, too long or reserved"));
        }
        let is_token = wire.owner_token.len() == 32 && wire.owner_token.bytes().all(is_lower_hex);
        let owner_token = u128::from_str_radix(&wire.owner_token, 16).ok().filter(|_| is_token);
        let owner_token = owner_token.ok_or(InvalidTicket("`owner_token` is not 32 hexadecimal digits"))?;
        let ttl = Duration::from_millis(wire.ttl_ms);
        if !is_valid_ttl(ttl) {
            return Err(InvalidTicket("`ttl_ms` is not a valid ttl"));
        }
        if wire.fencing_token.is_some_and(|token| !(1..MAX_TICKET_NUMBER).contains(&token.number)) {
            return Err(InvalidTicket("`fencing_token` has a number that no node gives"));
        }
        if wire.expires_at_ms > MAX_TIME_MILLIS {
            return Err(InvalidTicket("`expires_at_ms` is too far in the future"));
        }
        Ok(Self {
            key: Key::new(key),
            owner_token: OwnerToken::new(owner_token),
            ttl,
            fencing_token: wire.fencing_token,
            expires_at_millis: wire.expires_at_ms,
        })
    }
}

fn is_valid_ttl(ttl: Duration) -> bool {
    // The ttl alone is checked; the client that adopts the lock has a drift and timeouts of its own.
    Drift::new(0.0).is_ok_and(|drift| LeaseParams::new(ttl, drift, None, ttl).is_ok())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] if is_lower_hex(*high) && is_lower_hex(*low) => {
                Some(value(*high)? << 4 | value(*low)?)
            }
            _ => None,
        })
        .collect()
}

const fn is_lower_hex(digit: u8) -> bool {
    matches!(digit, b'0'..=b'9' | b'a'..=b'f')
}

const VERSION: u32 = 1;
const OTHER_VERSION: InvalidTicket =
    InvalidTicket("its fields are not those of `version` 1: use the same version of quorlock on both sides");
/// Numbers from here on come from no lock: they are above every minimum that a client may set and the numbers that
/// follow it. An edited ticket must not use up the numbers of a node.
const MAX_TICKET_NUMBER: u64 = MAX_MIN_FENCING_NUMBER + (1 << 39);
/// The end of the year 9999.
const MAX_TIME_MILLIS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn ticket(key: &[u8], fencing_token: Option<FencingToken>) -> LockTicket {
        LockTicket {
            key: Key::new(key),
            owner_token: OwnerToken::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            ttl: Duration::from_secs(10),
            fencing_token,
            expires_at_millis: 1_796_000_000_123,
        }
    }

    fn json_of_valid_ticket() -> Value {
        json!({
            "version": 1,
            "key": "6f72646572733a3432",
            "owner_token": "0123456789abcdef0123456789abcdef",
            "ttl_ms": 10_000,
            "fencing_token": { "number": 1_796_000_000_000_000_u64, "nonce": "0000000000000000000000000000feed" },
            "expires_at_ms": 1_796_000_000_123_u64,
        })
    }

    fn parse(value: &Value) -> Result<LockTicket, String> {
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_ticket_is_an_object_with_its_version_first() {
        let token = FencingToken { number: 1_796_000_000_000_000, nonce: 0xfeed };
        let ticket = ticket(b"orders:42", Some(token));
        assert_eq!(serde_json::to_value(&ticket).expect("JSON"), json_of_valid_ticket());
        let text = serde_json::to_string(&ticket).expect("JSON");
        assert!(text.starts_with("{\"version\":1,"), "{text}");
    }

    /// Keys are any bytes; a plain lock has no fencing token.
    #[test]
    fn a_ticket_survives_a_round_trip() {
        let token = FencingToken { number: 1, nonce: u128::MAX };
        for key in [&b"orders:42"[..], b"\0\xff\r\n\"", &vec![b'x'; MAX_KEY_BYTES]] {
            for fencing_token in [None, Some(token)] {
                let text = serde_json::to_string(&ticket(key, fencing_token)).expect("JSON");
                let again: LockTicket = serde_json::from_str(&text).expect("a ticket");
                assert_eq!((again.key().as_bytes(), again.fencing_token()), (key, fencing_token));
                assert_eq!(serde_json::to_string(&again).expect("JSON"), text);
            }
        }
    }

    #[test]
    fn a_ticket_of_another_version_is_rejected_as_such() {
        for version in [0, 2, u32::MAX] {
            let mut ticket = json_of_valid_ticket();
            ticket["version"] = json!(version);
            // A later version may have other fields.
            for ticket in [ticket, json!({ "version": version }), json!({ "version": version, "key": 7 })] {
                assert!(parse(&ticket).expect_err("another version").contains("`version` 1"));
            }
        }
    }

    /// Serde's own errors repeat values.
    #[test]
    fn no_error_shows_a_value_of_the_wrong_type() {
        let secret = json!("0123456789abcdef0123456789abcdef");
        let mut tickets = vec![secret.clone(), json!([secret]), json!({})];
        for field in ["version", "key", "owner_token", "ttl_ms", "fencing_token", "expires_at_ms"] {
            for value in
                [&secret, &json!(1_234_567_890_123_456_789_u64), &json!(null), &json!(["0123456789"])]
            {
                let mut ticket = json_of_valid_ticket();
                ticket[field] = value.clone();
                tickets.push(ticket);
            }
            let mut ticket = json_of_valid_ticket();
            ticket.as_object_mut().expect("an object").remove(field);
            tickets.push(ticket);
        }
        let errors: Vec<String> = tickets.iter().filter_map(|ticket| parse(ticket).err()).collect();
        assert!(errors.len() >= 25, "{errors:?}");
        for error in errors {
            assert!(error.starts_with("not a valid ticket") && !error.contains("123456789"), "{error}");
        }
    }

    #[test]
    fn an_invalid_field_is_named_and_its_value_is_not_shown() {
        let long = "78".repeat(MAX_KEY_BYTES + 1);
        let reserved = hex(b"quorlock:node");
        let number = |number: u64| json!({ "number": number, "nonce": "0000000000000000000000000000feed" });
        let cases = [
            ("key", json!("")),
            ("key", json!("7")),
            ("key", json!("7G")),
            ("key", json!("6F")),
            ("key", json!("é")),
            ("key", json!(long)),
            ("key", json!(reserved)),
            ("owner_token", json!("")),
            ("owner_token", json!("0123456789abcdef0123456789abcde")),
            ("owner_token", json!("+123456789abcdef0123456789abcdef")),
            ("owner_token", json!("0123456789ABCDEF0123456789ABCDEF")),
            ("ttl_ms", json!(0)),
            ("ttl_ms", json!(9)),
            ("ttl_ms", json!(u64::MAX)),
            ("fencing_token", number(0)),
            ("fencing_token", number(MAX_TICKET_NUMBER)),
            ("fencing_token", number(u64::MAX)),
            ("expires_at_ms", json!(u64::MAX)),
        ];
        for (field, value) in cases {
            let mut ticket = json_of_valid_ticket();
            ticket[field] = value.clone();
            let error = parse(&ticket).expect_err(field);
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
            assert!(!error.contains("0123456789") && error.len() < 120, "{error}");
        }
        assert!(parse(&json_of_valid_ticket()).is_ok());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let ticket = ticket(b"orders:42", None);
        let text = format!("{ticket:?} {ticket:#?}");
        assert!(!text.contains("0123456789abcdef") && text.contains("orders:42"), "{text}");
        assert!(text.contains(&format!("#{}", ticket.owner_token.hash())), "{text}");
    }

    proptest! {
        /// No input panics, and an accepted ticket can be shown and used.
        #[test]
        fn any_input_is_accepted_or_rejected(
            version in prop_oneof![Just(1_u32), any::<u32>()],
            key in prop_oneof!["[0-9a-f]{0,40}", ".{0,40}"],
            owner_token in prop_oneof!["[0-9a-f]{32}", ".{0,40}"],
            ttl_ms in prop_oneof![0..20_000_u64, any::<u64>()],
            number in prop_oneof![0..100_u64, any::<u64>()],
            expires_at_ms in any::<u64>(),
        ) {
            let fencing_token = Some(FencingToken { number, nonce: 7 });
            let wire = WireTicket { version, key, owner_token, ttl_ms, fencing_token, expires_at_ms };
            if let Ok(ticket) = LockTicket::try_from(wire) {
                let _ = (format!("{ticket:?}"), ticket.expires_at(), ticket.owner());
            }
        }
    }
}
