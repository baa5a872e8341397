//! One node of the floor: a blocking socket, and how many replies are to come.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::Outcome;

pub(super) struct Node {
    pub(super) stream: TcpStream,
    /// What ends a ballot.
    pub(super) badge: Vec<u8>,
    owed: usize,
    /// What was read and is no whole reply yet is in the first `filled` bytes.
    inbox: Box<[u8]>,
    filled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    Yes,
    Fenced(u64),
    No,
}

impl Node {
    pub(super) fn dial(url: &str, badge: Vec<u8>) -> Outcome<Self> {
        let stream = TcpStream::connect(url.strip_prefix("redis://").ok_or("not a plain URL")?)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, badge, owed: 0, inbox: vec![0; CHUNK].into(), filled: 0 })
    }

    pub(super) fn owes(&self) -> bool {
        self.owed > 0
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.owed += 1;
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads once. The answer to what was sent last, if that is in: those before it come late and count no more.
    pub(super) fn read(&mut self) -> Outcome<Option<Vote>> {
        let length = self.stream.read(&mut self.inbox[self.filled..])?;
        if length == 0 {
            return Err("a node closed the connection".into());
        }
        self.filled += length;
        let (mut read, mut last) = (0, None);
        while let Some((vote, length)) = reply(&self.inbox[read..self.filled])? {
            read += length;
            self.owed -= 1;
            last = Some(vote);
        }
        self.inbox.copy_within(read..self.filled, 0);
        self.filled -= read;
        Ok(last.filter(|_| self.owed == 0))
    }
}

/// The first reply and its length, if it is whole.
fn reply(bytes: &[u8]) -> Outcome<Option<(Vote, usize)>> {
    let Some((first, mut rest)) = line(bytes) else { return Ok(None) };
    let vote = match first {
        b"+OK" | b":1" => Vote::Yes,
        b"$-1" | b":0" => Vote::No,
        b"*3" => {
            let mut numbers = [0; 3];
            for number in &mut numbers {
                let Some((line, behind)) = line(rest) else { return Ok(None) };
                *number = std::str::from_utf8(line)?.trim_start_matches(':').parse::<i64>()?;
                rest = behind;
            }
            match numbers {
                [1, number, _] => Vote::Fenced(number as u64),
                [0, ..] => Vote::No,
                [odd, ..] => return Err(format!("a node does not vote: {odd}").into()),
            }
        }
        odd => return Err(format!("an odd reply: {}", String::from_utf8_lossy(odd)).into()),
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
    fn replies_are_read_whole_and_one_at_a_time() {
        let of = |bytes: &[u8]| reply(bytes).expect("a reply that is known");
        assert_eq!(of(b"+OK\r\n+OK\r\n"), Some((Vote::Yes, 5)));
        assert_eq!(of(b":0\r\n"), Some((Vote::No, 4)));
        assert_eq!(of(b"$-1\r\n"), Some((Vote::No, 5)));
        assert_eq!(of(b"*3\r\n:1\r\n:17\r\n:18\r\n"), Some((Vote::Fenced(17), 18)));
        assert_eq!(of(b"*3\r\n:1\r\n:17\r\n:1"), None);
        assert!(reply(b"-ERR no\r\n").is_err());
        assert!(reply(b"*3\r\n:-3\r\n:0\r\n:18\r\n").is_err(), "a node that does not vote is no floor");
    }
}
