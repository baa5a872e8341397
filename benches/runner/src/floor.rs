//! The floor: as little as a client can do. One thread, a socket for each node, `poll(2)`, back at the third reply.
//!
//! Nothing is there that a lock needs beside: no deadline, no other callers, no way on when a node fails. What it takes is
//! the time of the kernel and of the servers, which no client can save.

mod node;

use std::fmt;
use std::io::{self, BufRead as _};
use std::time::{Instant, SystemTime};

use redis::{Client, cmd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Outcome;
use crate::worker::{Job, Request, answer};
use node::{Node, Vote};

/// Which work it does: `SET NX PX` as plain mode, or the very script of fenced mode. The release is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Fenced,
}

struct Floor {
    mode: Mode,
    nodes: Vec<Node>,
    need: usize,
    /// Digests.
    grant: String,
    release: String,
    key: String,
    token: String,
    /// What goes to all nodes, and what only one is sent.
    common: Vec<u8>,
    whole: Vec<u8>,
}

/// A worker like the others, but without a runtime.
pub fn serve(job: &Job, mode: Mode) -> Outcome<()> {
    let connected = Floor::connect(job, mode);
    let Some(mut floor) = answer(connected.map(|floor| (Vec::new(), floor)))? else { return Ok(()) };
    for line in io::stdin().lock().lines() {
        answer(floor.carry_out(&Request::of(&line?)?).map(|figures| (figures, ())))?;
    }
    Ok(())
}

impl Floor {
    fn connect(job: &Job, mode: Mode) -> Outcome<Self> {
        let (mut nodes, mut grant, mut release) = (Vec::new(), String::new(), String::new());
        for url in &job.urls {
            let mut setup = Client::open(url.as_str())?.get_connection()?;
            grant = cmd("SCRIPT").arg("LOAD").arg(GRANT).query(&mut setup)?;
            release = cmd("SCRIPT").arg("LOAD").arg(RELEASE).query(&mut setup)?;
            let marker: Option<String> = cmd("GET").arg(MARKER).query(&mut setup)?;
            let badge = match mode {
                Mode::Plain => Vec::new(),
                Mode::Fenced => badge(&marker.ok_or("a node without a marker")?)?,
            };
            nodes.push(Node::dial(url, badge)?);
        }
        let need = nodes.len() / 2 + 1;
        let key = format!("{}one", job.prefix());
        let (token, common, whole) = (String::new(), Vec::new(), Vec::new());
        Ok(Self { mode, nodes, need, grant, release, key, token, common, whole })
    }

    fn carry_out(&mut self, request: &Request) -> Outcome<Vec<f64>> {
        let mut micros = Vec::new();
        match *request {
            Request::Work { ops } => {
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
            _ => return Err(format!("the floor cannot {request}").into()),
        }
        Ok(micros)
    }

    fn acquire(&mut self) -> Outcome<()> {
        self.token.clear();
        fmt::Write::write_fmt(&mut self.token, format_args!("{:032x}", rand::random::<u128>()))?;
        self.common.clear();
        match self.mode {
            Mode::Plain => {
                let words = ["SET", &self.key, &self.token, "NX", "PX", TTL_MILLIS];
                pack(&mut self.common, words.len(), &words);
            }
            Mode::Fenced => {
                let hint = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros().to_string();
                let fence = format!("{FENCE_PREFIX}{}", self.key);
                let words = [
                    "EVALSHA",
                    &self.grant,
                    "4",
                    &self.key,
                    &fence,
                    MARKER,
                    HIGH,
                    &self.token,
                    TTL_MILLIS,
                    KEEP_MILLIS,
                    &hint,
                    "0",
                ];
                // Each node's badge adds three.
                pack(&mut self.common, words.len() + 3, &words);
            }
        }
        if self.request(self.mode == Mode::Fenced)? { Ok(()) } else { Err("no quorum for a free key".into()) }
    }

    fn release(&mut self) -> Outcome<()> {
        self.common.clear();
        let words = ["EVALSHA", &self.release, "1", &self.key, &self.token];
        pack(&mut self.common, words.len(), &words);
        if self.request(false)? { Ok(()) } else { Err("no quorum for a release".into()) }
    }

    /// Sends it to all, and comes back when enough have said yes.
    fn request(&mut self, with_badge: bool) -> Outcome<bool> {
        for node in &mut self.nodes {
            if with_badge {
                self.whole.clear();
                self.whole.extend_from_slice(&self.common);
                self.whole.extend_from_slice(&node.badge);
                node.send(&self.whole)?;
            } else {
                node.send(&self.common)?;
            }
        }
        let (mut yes, mut answers, mut number) = (0, 0, None);
        while yes < self.need {
            if answers == self.nodes.len() {
                return Ok(false);
            }
            let ready = self.wait()?;
            for (node, _) in self.nodes.iter_mut().zip(ready).filter(|(_, is_ready)| *is_ready) {
                match node.read()? {
                    None => {}
                    Some(Vote::No) => answers += 1,
                    Some(Vote::Yes) => (answers, yes) = (answers + 1, yes + 1),
                    Some(Vote::Fenced(theirs)) => {
                        (answers, yes) = (answers + 1, yes + 1);
                        // With one clock on one machine there is no second round, and here is none.
                        if *number.get_or_insert(theirs) != theirs {
                            return Err("the nodes gave different numbers".into());
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Which nodes have something to read.
    fn wait(&self) -> Outcome<Vec<bool>> {
        let flags = |node: &Node| if node.owes() { PollFlags::IN } else { PollFlags::empty() };
        let mut polled: Vec<_> =
            self.nodes.iter().map(|node| PollFd::new(&node.stream, flags(node))).collect();
        if poll(&mut polled, Some(&PATIENCE))? == 0 {
            return Err("no node answers".into());
        }
        Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect())
    }
}

/// The end of a ballot: the marker that this node has, when its probation is over, and what its numbers are above.
fn badge(marker: &str) -> Outcome<Vec<u8>> {
    let words: Vec<&str> = marker.split(' ').collect();
    let ["quorlock3", _, _, _, longest_millis, _, _, since_micros, _, base_micros] = words[..] else {
        return Err(format!("a marker of another kind: {marker:?}").into());
    };
    let votes_from = since_micros.parse::<u64>()? + longest_millis.parse::<u64>()? * 1000;
    let above = votes_from.max(base_micros.parse()?);
    let mut bytes = Vec::new();
    pack_words(&mut bytes, &[marker, &votes_from.to_string(), &above.to_string()]);
    Ok(bytes)
}

fn pack(out: &mut Vec<u8>, count: usize, words: &[&str]) {
    // Writing to memory cannot fail.
    let _ = io::Write::write_fmt(out, format_args!("*{count}\r\n"));
    pack_words(out, words);
}

fn pack_words(out: &mut Vec<u8>, words: &[&str]) {
    for word in words {
        let _ = io::Write::write_fmt(out, format_args!("${}\r\n{word}\r\n", word.len()));
    }
}

const TTL_MILLIS: &str = "10000";
/// An hour, as by default.
const KEEP_MILLIS: &str = "3600000";
const MARKER: &str = "quorlock:node";
const HIGH: &str = "quorlock:high";
const FENCE_PREFIX: &str = "quorlock:fence:";
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// The very scripts of the library.
const GRANT: &str = include_str!("../lua/acquire_fenced.lua");
const RELEASE: &str = include_str!("../lua/release.lua");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorlock::{InitOutcome, Redlock};
    use quorlock_chaos::Fleet;

    use super::*;
    use crate::worker::Threads;

    /// It speaks the library's language by heart, so it must hear when that has changed.
    #[tokio::test]
    async fn the_floor_takes_and_gives_back_what_the_library_would() {
        let fleet = Fleet::start(3).expect("a redis-server is installed (scripts/setup)");
        let builder = Redlock::builder().nodes(fleet.urls()).dial_timeout(Duration::from_secs(20));
        assert_eq!(builder.init(false).await.expect("all are up and blank"), InitOutcome::Initialized);
        let job = Job { name: "floor".to_owned(), threads: Threads::One, urls: fleet.urls() };
        for mode in [Mode::Plain, Mode::Fenced] {
            let mut floor = Floor::connect(&job, mode).expect("all are up");
            floor.acquire().expect("free");
            let is_held =
                |it: &quorlock_chaos::Server| it.command::<usize>(&["EXISTS", &floor.key]).expect("it is up");
            let held: usize = fleet.servers().iter().map(is_held).sum();
            assert!(held >= 2, "{mode:?}: {held}");
            floor.release().expect("held");
            floor.acquire().expect("free again");
            floor.release().expect("held");
        }
    }
}
