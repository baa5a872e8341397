//! The baseline: the least work of a client. One thread, a socket for each node, `poll(2)`, return at the
//! third reply.
//!
//! It has no deadline, no other callers and no handling of a failed node. Its time is that of the kernel and
//! of the servers, which no client can save.

mod node;

use std::fmt;
use std::io::{self, BufRead as _};
use std::time::{Instant, SystemTime};

use redis::{Client, cmd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Outcome;
use crate::worker::{Request, WorkerArgs, write_reply};
use node::{Node, Vote};

/// What an acquire sends: `SET NX PX` as in plain mode, or the script of fenced mode. The release is the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Fenced,
}

struct BaselineClient {
    mode: Mode,
    nodes: Vec<Node>,
    quorum: usize,
    acquire_digest: String,
    release_digest: String,
    key: String,
    token: String,
    /// The bytes of the request that are the same for all nodes.
    shared_bytes: Vec<u8>,
    /// The whole request to one node.
    request: Vec<u8>,
}

/// The main function of a worker without a runtime.
pub fn serve(args: &WorkerArgs, mode: Mode) -> Outcome<()> {
    let connected = BaselineClient::connect(args, mode);
    let Some(mut client) = write_reply(connected.map(|client| (Vec::new(), client)))? else { return Ok(()) };
    for line in io::stdin().lock().lines() {
        write_reply(client.execute(&Request::parse(&line?)?).map(|micros| (micros, ())))?;
    }
    Ok(())
}

impl BaselineClient {
    fn connect(args: &WorkerArgs, mode: Mode) -> Outcome<Self> {
        let (mut nodes, mut acquire_digest, mut release_digest) = (Vec::new(), String::new(), String::new());
        for url in &args.urls {
            let mut setup = Client::open(url.as_str())?.get_connection()?;
            acquire_digest = cmd("SCRIPT").arg("LOAD").arg(ACQUIRE).query(&mut setup)?;
            release_digest = cmd("SCRIPT").arg("LOAD").arg(RELEASE).query(&mut setup)?;
            let marker: Option<String> = cmd("GET").arg(MARKER).query(&mut setup)?;
            let marker_args = match mode {
                Mode::Plain => Vec::new(),
                Mode::Fenced => marker_args(&marker.ok_or("a node without a marker")?)?,
            };
            nodes.push(Node::dial(url, marker_args)?);
        }
        let quorum = nodes.len() / 2 + 1;
        let key = format!("{}one", args.prefix());
        let (token, shared_bytes, request) = (String::new(), Vec::new(), Vec::new());
        Ok(Self { mode, nodes, quorum, acquire_digest, release_digest, key, token, shared_bytes, request })
    }

    fn execute(&mut self, request: &Request) -> Outcome<Vec<f64>> {
        let mut micros = Vec::new();
        match *request {
            Request::Untimed { ops } => {
                for _ in 0..ops {
                    self.acquire()?;
                    self.release()?;
                }
            }
            Request::Sequence { ops } => {
                micros.reserve(ops * 2);
                for _ in 0..ops {
                    let begin = Instant::now();
                    self.acquire()?;
                    let acquired = begin.elapsed();
                    self.release()?;
                    let total = begin.elapsed();
                    micros.push(acquired.as_secs_f64() * 1e6);
                    micros.push(total.saturating_sub(acquired).as_secs_f64() * 1e6);
                }
            }
            _ => return Err(format!("the baseline does not support {request}").into()),
        }
        Ok(micros)
    }

    fn acquire(&mut self) -> Outcome<()> {
        self.token.clear();
        fmt::Write::write_fmt(&mut self.token, format_args!("{:032x}", rand::random::<u128>()))?;
        self.shared_bytes.clear();
        match self.mode {
            Mode::Plain => {
                let args = ["SET", &self.key, &self.token, "NX", "PX", TTL_MILLIS];
                encode_command(&mut self.shared_bytes, args.len(), &args);
            }
            Mode::Fenced => {
                let hint = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros().to_string();
                let fence = format!("{FENCE_PREFIX}{}", self.key);
                let args = [
                    "EVALSHA",
                    &self.acquire_digest,
                    "4",
                    &self.key,
                    &fence,
                    MARKER,
                    HIGH,
                    &self.token,
                    TTL_MILLIS,
                    RETENTION_MILLIS,
                    &hint,
                    "0",
                ];
                // The marker arguments of each node are three more.
                encode_command(&mut self.shared_bytes, args.len() + 3, &args);
            }
        }
        if self.reaches_quorum(self.mode == Mode::Fenced)? {
            Ok(())
        } else {
            Err("no quorum for a free key".into())
        }
    }

    fn release(&mut self) -> Outcome<()> {
        self.shared_bytes.clear();
        let args = ["EVALSHA", &self.release_digest, "1", &self.key, &self.token];
        encode_command(&mut self.shared_bytes, args.len(), &args);
        if self.reaches_quorum(false)? { Ok(()) } else { Err("no quorum for a release".into()) }
    }

    /// Sends the request to all nodes, and returns once a quorum has granted it.
    fn reaches_quorum(&mut self, with_marker_args: bool) -> Outcome<bool> {
        for node in &mut self.nodes {
            if with_marker_args {
                self.request.clear();
                self.request.extend_from_slice(&self.shared_bytes);
                self.request.extend_from_slice(&node.marker_args);
                node.send(&self.request)?;
            } else {
                node.send(&self.shared_bytes)?;
            }
        }
        let (mut granted, mut replies, mut first_number) = (0, 0, None);
        while granted < self.quorum {
            if replies == self.nodes.len() {
                return Ok(false);
            }
            let ready = self.wait()?;
            for (node, _) in self.nodes.iter_mut().zip(ready).filter(|(_, is_ready)| *is_ready) {
                match node.read()? {
                    None => {}
                    Some(Vote::Denied) => replies += 1,
                    Some(Vote::Granted) => (replies, granted) = (replies + 1, granted + 1),
                    Some(Vote::GrantedWithNumber(number)) => {
                        (replies, granted) = (replies + 1, granted + 1);
                        // All nodes share the clock of one machine, so there is no second round.
                        if *first_number.get_or_insert(number) != number {
                            return Err("the nodes gave different numbers".into());
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// For each node, whether it has something to read.
    fn wait(&self) -> Outcome<Vec<bool>> {
        let flags = |node: &Node| if node.awaits_reply() { PollFlags::IN } else { PollFlags::empty() };
        let mut polled: Vec<_> =
            self.nodes.iter().map(|node| PollFd::new(&node.stream, flags(node))).collect();
        if poll(&mut polled, Some(&TIMEOUT))? == 0 {
            return Err("no node replied".into());
        }
        Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect())
    }
}

/// The last arguments of the acquire script: the node's marker, the end of its probation, and a lower bound
/// of its numbers.
fn marker_args(marker: &str) -> Outcome<Vec<u8>> {
    let fields: Vec<&str> = marker.split(' ').collect();
    let ["quorlock4", _, _, _, _, _, votes_from, _, base] = fields[..] else {
        return Err(format!("unknown format of a marker: {marker:?}").into());
    };
    let above = votes_from.parse::<u64>()?.max(base.parse()?);
    let mut bytes = Vec::new();
    encode_args(&mut bytes, &[marker, votes_from, &above.to_string()]);
    Ok(bytes)
}

fn encode_command(out: &mut Vec<u8>, count: usize, args: &[&str]) {
    // Writing to memory cannot fail.
    let _ = io::Write::write_fmt(out, format_args!("*{count}\r\n"));
    encode_args(out, args);
}

fn encode_args(out: &mut Vec<u8>, args: &[&str]) {
    for arg in args {
        let _ = io::Write::write_fmt(out, format_args!("${}\r\n{arg}\r\n", arg.len()));
    }
}

const TTL_MILLIS: &str = "10000";
/// The fencing retention: an hour, the default.
const RETENTION_MILLIS: &str = "3600000";
const MARKER: &str = "quorlock:node";
const HIGH: &str = "quorlock:high";
const FENCE_PREFIX: &str = "quorlock:fence:";
const TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// The scripts of the library.
const ACQUIRE: &str = include_str!("../lua/acquire_fenced.lua");
const RELEASE: &str = include_str!("../lua/release.lua");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorlock::{InitOutcome, Redlock};
    use quorlock_chaos::Fleet;

    use super::*;
    use crate::worker::Threads;

    /// The baseline encodes the library's requests by itself, so this test fails when they have changed.
    #[tokio::test]
    async fn the_baseline_acquires_and_releases_like_the_library() {
        let fleet = Fleet::start(3).expect("a redis-server is installed (scripts/setup)");
        let builder = Redlock::builder().nodes(fleet.urls()).dial_timeout(Duration::from_secs(20));
        assert_eq!(builder.initialize().await.expect("all nodes are up and blank"), InitOutcome::Initialized);
        let args = WorkerArgs { name: "baseline".to_owned(), threads: Threads::One, urls: fleet.urls() };
        for mode in [Mode::Plain, Mode::Fenced] {
            let mut client = BaselineClient::connect(&args, mode).expect("all nodes are up");
            client.acquire().expect("free");
            let is_held = |server: &quorlock_chaos::Server| {
                server.command::<usize>(&["EXISTS", &client.key]).expect("the server is up")
            };
            let held: usize = fleet.servers().iter().map(is_held).sum();
            assert!(held >= 2, "{mode:?}: {held}");
            client.release().expect("held");
            client.acquire().expect("free again");
            client.release().expect("held");
        }
    }
}
