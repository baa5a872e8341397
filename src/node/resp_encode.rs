//! Encodes commands as RESP.

use std::time::Duration;

/// Encodes a command: the number of words, and each word after its length. The redis crate does the same
/// through a buffer and `fmt`, at five times the cost. For a lock over five nodes, encoding is one of the
/// larger costs.
pub(super) fn put_command(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    put_length(bytes, b'*', words.len());
    put_words(bytes, words);
}

pub(super) fn put_words(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    for word in words {
        put_word(bytes, word);
    }
}

pub(super) fn put_word(bytes: &mut Vec<u8>, word: &[u8]) {
    put_length(bytes, b'$', word.len());
    bytes.extend_from_slice(word);
    bytes.extend_from_slice(b"\r\n");
}

/// Encodes a length line. Nearly all lengths have one or two digits, which need no loop.
pub(super) fn put_length(bytes: &mut Vec<u8>, type_byte: u8, length: usize) {
    match length as u64 {
        ones @ 0..10 => bytes.extend_from_slice(&[type_byte, b'0' + ones as u8, b'\r', b'\n']),
        two @ 10..100 => {
            let (tens, ones) = (two as u8 / 10, two as u8 % 10);
            bytes.extend_from_slice(&[type_byte, b'0' + tens, b'0' + ones, b'\r', b'\n']);
        }
        many => {
            bytes.push(type_byte);
            bytes.extend_from_slice(itoa::Buffer::new().format(many).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
    }
}

pub(super) fn millis(span: Duration) -> Decimal {
    digits(span.as_millis() as u64)
}

pub(super) fn digits(number: u64) -> Decimal {
    let (mut buffer, mut decimal) = (itoa::Buffer::new(), Decimal { bytes: [0; 20], length: 0 });
    let text = buffer.format(number).as_bytes();
    decimal.length = text.len();
    decimal.bytes[..text.len()].copy_from_slice(text);
    decimal
}

/// The decimal digits of a number.
pub(super) struct Decimal {
    bytes: [u8; 20],
    length: usize,
}

impl Decimal {
    pub(super) fn digits(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded_like_the_redis_crate_encodes_them() {
        for length in [0, 1, 9, 10, 11, 99, 100, 101, 1000] {
            let word = vec![b'x'; length];
            let mut bytes = Vec::new();
            put_command(&mut bytes, &[b"SET", &word, digits(length as u64).digits()]);
            let expected = redis::cmd("SET").arg(&word).arg(length).get_packed_command();
            assert_eq!(bytes, expected, "{length}");
        }
        assert_eq!(digits(u64::MAX).digits(), u64::MAX.to_string().as_bytes());
    }
}
