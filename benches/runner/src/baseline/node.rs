//! A node of the baseline: a blocking socket, and the number of replies due.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::Outcome;

pub(super) struct Node {
    pub(super) stream: TcpStream,
    /// The last arguments of the acquire script.
    pub(super) marker_args: Vec<u8>,
    replies_due: usize,
    /// The first `filled` bytes are the beginning of an incomplete reply.
    buffer: Box<[u8]>,
    filled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    Granted,
    GrantedWithNumber(u64),
    Denied,
}

impl Node {
    pub(super) fn dial(url: &str, marker_args: Vec<u8>) -> Outcome<Self> {
        let stream = TcpStream::connect(url.strip_prefix("redis://").ok_or("not a plain URL")?)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, marker_args, replies_due: 0, buffer: vec![0; CHUNK].into(), filled: 0 })
    }

    pub(super) fn awaits_reply(&self) -> bool {
        self.replies_due > 0
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.replies_due += 1;
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads once. Returns the reply to the last request, if it is in; replies to earlier requests are late
    /// and ignored.
    pub(super) fn read(&mut self) -> Outcome<Option<Vote>> {
        let length = self.stream.read(&mut self.buffer[self.filled..])?;
        if length == 0 {
            return Err("a node closed the connection".into());
        }
        self.filled += length;
        let (mut read, mut last) = (0, None);
        while let Some((vote, length)) = parse_reply(&self.buffer[read..self.filled])? {
            read += length;
            self.replies_due -= 1;
            last = Some(vote);
        }
        self.buffer.copy_within(read..self.filled, 0);
        self.filled -= read;
        Ok(last.filter(|_| self.replies_due == 0))
    }
}

/// The first reply and its length, if it is whole.
fn parse_reply(bytes: &[u8]) -> Outcome<Option<(Vote, usize)>> {
    let Some((first, mut rest)) = line(bytes) else { return Ok(None) };
    let vote = match first {
        b"+OK" | b":1" => Vote::Granted,
        b"$-1" | b":0" => Vote::Denied,
        b"*3" => {
            let mut numbers = [0; 3];
            for number in &mut numbers {
                let Some((line, remaining)) = line(rest) else { return Ok(None) };
                *number = std::str::from_utf8(line)?.trim_start_matches(':').parse::<i64>()?;
                rest = remaining;
            }
            match numbers {
                [1, number, _] => Vote::GrantedWithNumber(number as u64),
                [0, ..] => Vote::Denied,
                [status, ..] => return Err(format!("a node does not vote: status {status}").into()),
            }
        }
        other => return Err(format!("unexpected reply: {}", String::from_utf8_lossy(other)).into()),
    };
    Ok(Some((vote, bytes.len() - rest.len())))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

const CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_parsed_only_when_it_is_complete() {
        let parse = |bytes: &[u8]| parse_reply(bytes).expect("a known reply");
        assert_eq!(parse(b"+OK\r\n+OK\r\n"), Some((Vote::Granted, 5)));
        assert_eq!(parse(b":0\r\n"), Some((Vote::Denied, 4)));
        assert_eq!(parse(b"$-1\r\n"), Some((Vote::Denied, 5)));
        assert_eq!(parse(b"*3\r\n:1\r\n:17\r\n:18\r\n"), Some((Vote::GrantedWithNumber(17), 18)));
        assert_eq!(parse(b"*3\r\n:1\r\n:17\r\n:1"), None);
        assert!(parse_reply(b"-ERR no\r\n").is_err());
        assert!(parse_reply(b"*3\r\n:-3\r\n:0\r\n:18\r\n").is_err(), "a node that does not vote is an error");
    }
}
