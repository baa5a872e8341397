//! Parses replies from the received bytes.
//!
//! Most replies are tiny (`+OK`, `$-1`, `:1`) and are parsed here without an allocation. For any other reply,
//! this module finds its end, and the redis crate parses it.

use std::fmt;

use redis::Value;

use super::error_reply::ErrorReply;

/// One reply. `Debug` shows no values, because they may contain an owner token.
#[derive(Clone, PartialEq)]
pub(crate) enum Reply {
    /// `+OK`.
    Ok,
    /// No value, in any form of the protocol.
    Nil,
    /// A number.
    Int(i64),
    /// Three numbers: a script's result code, its value, and the node's clock in microseconds.
    ScriptResult([i64; 3]),
    /// An error.
    Error(ErrorReply),
    /// Any other reply.
    Other(Value),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::Nil => f.write_str("Nil"),
            Self::Int(number) => write!(f, "Int({number})"),
            Self::ScriptResult(numbers) => write!(f, "ScriptResult({numbers:?})"),
            Self::Error(error) => write!(f, "Error({error:?})"),
            Self::Other(_) => f.write_str("Other(…)"),
        }
    }
}

/// The bytes violate the protocol, so the following bytes cannot be parsed either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent bytes that are no reply")]
pub(crate) struct ProtocolError;

/// The first reply in `bytes` and its length; there is no secret to redact.
#[cfg(test)]
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, ProtocolError> {
    parse_redacting(bytes, None)
}

/// The length of the first reply in bytes, for the benchmark, which cannot access the parser.
#[cfg(feature = "bench-internals")]
#[must_use]
pub fn reply_length(bytes: &[u8]) -> Option<usize> {
    parse_redacting(bytes, None).ok()?.map(|(_, length)| length)
}

/// The first reply in `bytes` and its length; `None` while it is incomplete. Redacts this secret in error
/// replies.
pub(super) fn parse_redacting(
    bytes: &[u8],
    secret: Option<&str>,
) -> Result<Option<(Reply, usize)>, ProtocolError> {
    if let Some(fast) = parse_fast(bytes) {
        return Ok(Some(fast));
    }
    let Some(length) = frame_length(bytes)? else {
        return if bytes.len() > MAX_REPLY { Err(ProtocolError) } else { Ok(None) };
    };
    let whole = &bytes[..length];
    let reply = match whole {
        b"$-1\r\n" | b"*-1\r\n" | b"_\r\n" => Reply::Nil,
        [b':', digits @ .., b'\r', b'\n'] => Reply::Int(parse_number(digits).ok_or(ProtocolError)?),
        // Three numbers again: `parse_fast` does not parse numbers of more than 18 digits.
        [b'*', b'3', b'\r', b'\n', b':', numbers @ .., b'\r', b'\n'] => parse_script_result(numbers)
            .map_or_else(|| parse_other(whole), |numbers| Ok(Reply::ScriptResult(numbers)))?,
        [b'-', text @ .., b'\r', b'\n'] => Reply::Error(ErrorReply::redacting(text, secret)),
        [b'!', rest @ ..] => {
            let text = rest.iter().position(|byte| *byte == b'\n').ok_or(ProtocolError)? + 1;
            Reply::Error(ErrorReply::redacting(&rest[text..rest.len() - 2], secret))
        }
        _ => parse_other(whole)?,
    };
    Ok(Some((reply, length)))
}

/// Parses the most frequent replies in one pass. `None` for any other reply, also for an incomplete one of
/// these.
pub(super) fn parse_fast(bytes: &[u8]) -> Option<(Reply, usize)> {
    match bytes {
        [b'+', b'O', b'K', b'\r', b'\n', ..] => Some((Reply::Ok, 5)),
        [b':', ..] => {
            let (number, rest) = parse_short_number(bytes)?;
            Some((Reply::Int(number), bytes.len() - rest.len()))
        }
        [b'*', b'3', b'\r', b'\n', rest @ ..] => {
            let (code, rest) = parse_short_number(rest)?;
            let (value, rest) = parse_short_number(rest)?;
            let (micros, rest) = parse_short_number(rest)?;
            Some((Reply::ScriptResult([code, value, micros]), bytes.len() - rest.len()))
        }
        _ => None,
    }
}

/// A number line and the bytes after it; `None` for more than 18 digits, and for an incomplete line.
fn parse_short_number(line: &[u8]) -> Option<(i64, &[u8])> {
    let (is_negative, digits) = match line {
        [b':', b'-', digits @ ..] => (true, digits),
        [b':', digits @ ..] => (false, digits),
        _ => return None,
    };
    let (mut number, mut length) = (0, 0);
    for digit in digits.iter().take(MAX_DIGITS).map(|byte| byte.wrapping_sub(b'0')).take_while(|it| *it < 10)
    {
        number = number * 10 + i64::from(digit);
        length += 1;
    }
    match &digits[length..] {
        [b'\r', b'\n', rest @ ..] if length > 0 => Some((if is_negative { -number } else { number }, rest)),
        _ => None,
    }
}

fn parse_other(whole: &[u8]) -> Result<Reply, ProtocolError> {
    redis::parse_redis_value(whole).map(Reply::Other).map_err(|_| ProtocolError)
}

/// Three numbers on a line each, `:` before all but the first; `None` for anything else.
fn parse_script_result(lines: &[u8]) -> Option<[i64; 3]> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let first = parse_number(lines.next()?.strip_suffix(b"\r")?)?;
    let second = parse_number(lines.next()?.strip_prefix(b":")?.strip_suffix(b"\r")?)?;
    let third = parse_number(lines.next()?.strip_prefix(b":")?)?;
    lines.next().is_none().then_some([first, second, third])
}

/// The length of the first frame; `None` while it is incomplete. Counts instead of recursing, so that no
/// nesting can exhaust the stack.
pub(super) fn frame_length(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let mut at = 0;
    let mut frames_left = 1_usize;
    while frames_left > 0 {
        let Some(kind) = bytes.get(at) else { return Ok(None) };
        if !b"+-:_#,($=!*~>%|".contains(kind) {
            // Fail at once: another protocol may never send the end of a line.
            return Err(ProtocolError);
        }
        let Some(line) = read_line(&bytes[at + 1..])? else { return Ok(None) };
        at += 1 + line.len() + 2;
        frames_left -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
            b'$' | b'=' | b'!' => {
                let length = parse_length(line)?;
                if length.is_none() && *kind != b'$' {
                    // Only a string may have length -1 ("no value").
                    return Err(ProtocolError);
                }
                if let Some(length) = length {
                    at = at.checked_add(length + 2).ok_or(ProtocolError)?;
                    match bytes.get(at - 2..at) {
                        Some(b"\r\n") => {}
                        Some(_) => return Err(ProtocolError),
                        None => return Ok(None),
                    }
                }
            }
            b'*' | b'~' | b'>' => frames_left += parse_length(line)?.unwrap_or(0),
            b'%' => frames_left += 2 * parse_length(line)?.unwrap_or(0),
            // An attribute comes before its reply.
            b'|' => frames_left += 2 * parse_length(line)?.unwrap_or(0) + 1,
            _ => return Err(ProtocolError),
        }
    }
    Ok(Some(at))
}

/// The bytes up to the end of the line; `None` while the line is incomplete.
fn read_line(bytes: &[u8]) -> Result<Option<&[u8]>, ProtocolError> {
    match bytes.iter().position(|byte| *byte == b'\r') {
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some(&bytes[..end])),
            Some(_) => Err(ProtocolError),
            None => Ok(None),
        },
        None => Ok(None),
    }
}

/// A length: `None` for −1, which means "no value".
fn parse_length(line: &[u8]) -> Result<Option<usize>, ProtocolError> {
    match parse_number(line) {
        Some(-1) => Ok(None),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count <= MAX_REPLY => Ok(Some(count)),
            _ => Err(ProtocolError),
        },
        None => Err(ProtocolError),
    }
}

fn parse_number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Every number with this many digits fits into 64 bits.
const MAX_DIGITS: usize = 18;
/// In bytes; every expected reply is much shorter.
const MAX_REPLY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resp2() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            "[a-zA-Z ]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            "[A-Z]{1,9} [a-z ]{0,20}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| {
                let mut frame = format!("${}\r\n", bytes.len()).into_bytes();
                frame.extend(bytes);
                frame.extend(b"\r\n");
                frame
            }),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            proptest::collection::vec(inner, 0..6).prop_map(|items| {
                let mut frame = format!("*{}\r\n", items.len()).into_bytes();
                frame.extend(items.concat());
                frame
            })
        })
    }

    proptest! {
        #[test]
        fn frame_length_agrees_with_the_redis_crate(bytes in resp2(), tail in proptest::collection::vec(any::<u8>(), 0..8)) {
            prop_assert_eq!(frame_length(&bytes), Ok(Some(bytes.len())));
            let ours = parse(&bytes).expect("well-formed").expect("whole").0;
            let theirs = redis::parse_redis_value(&bytes);
            match (ours, theirs) {
                (Reply::Ok, Ok(theirs)) => prop_assert_eq!(theirs, Value::Okay),
                (Reply::Nil, Ok(theirs)) => prop_assert_eq!(theirs, Value::Nil),
                (Reply::Int(number), Ok(theirs)) => prop_assert_eq!(theirs, Value::Int(number)),
                (Reply::ScriptResult(numbers), Ok(theirs)) => {
                    prop_assert_eq!(theirs, Value::Array(numbers.map(Value::Int).into()));
                }
                (Reply::Other(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Reply::Error(_), _) => {}
                (ours, theirs) => prop_assert!(false, "{:?} against {:?}", ours, theirs),
            }
            let mut longer = bytes.clone();
            longer.extend(tail);
            prop_assert_eq!(frame_length(&longer), Ok(Some(bytes.len())));
        }

        #[test]
        fn incomplete_frames_have_no_length(bytes in resp2(), cut in any::<proptest::sample::Index>()) {
            let cut = cut.index(bytes.len());
            prop_assert_eq!(frame_length(&bytes[..cut]), Ok(None));
        }

        #[test]
        fn arbitrary_bytes_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }

    #[test]
    fn only_three_numbers_are_a_script_result() {
        let reply_in = |text: &[u8]| parse(text).expect("well-formed").expect("whole").0;
        assert_eq!(
            reply_in(b"*3\r\n:1\r\n:-2\r\n:9007199254740991\r\n"),
            Reply::ScriptResult([1, -2, (1 << 53) - 1])
        );
        for other in [
            &b"*3\r\n:1\r\n:2\r\n$1\r\n3\r\n"[..],
            b"*3\r\n:1\r\n$3\r\n:\r\n\r\n:3\r\n",
            b"*2\r\n:1\r\n:2\r\n",
        ] {
            assert!(matches!(reply_in(other), Reply::Other(Value::Array(_))), "{other:?}");
        }
    }

    #[test]
    fn resp3_frames_have_the_right_length() {
        for whole in [
            "_\r\n",
            "#t\r\n",
            ",1.5\r\n",
            "(12345\r\n",
            "%1\r\n+a\r\n:1\r\n",
            "~2\r\n:1\r\n:2\r\n",
            "=5\r\ntxt:a\r\n",
        ] {
            assert_eq!(frame_length(whole.as_bytes()), Ok(Some(whole.len())), "{whole:?}");
        }
        assert_eq!(parse(b"_\r\n"), Ok(Some((Reply::Nil, 3))));
        let Ok(Some((Reply::Error(error), 15))) =
            parse(b"!8\r\nERR oops\r\n").map(|it| it.map(|(r, _)| (r, 15)))
        else {
            panic!("a bulk error is an error");
        };
        assert_eq!(&*error.text(), "ERR oops");
    }

    #[test]
    fn invalid_lengths_are_rejected() {
        for bytes in [
            "!-1\r\n",
            "HTTP/1.1",
            "$99999999999999999999\r\n",
            "*-2\r\n",
            "$x\r\n",
            "?1\r\n",
            "+a\rb",
            "*1048577\r\n",
        ] {
            assert_eq!(frame_length(bytes.as_bytes()), Err(ProtocolError), "{bytes:?}");
        }
        // 200,000 nested lists use no stack.
        let deep = b"*1\r\n".repeat(200_000);
        assert_eq!(frame_length(&deep), Ok(None));
    }
}
