//! One of five nodes dead or paused, for clients connected before the fault and for clients that connect during it.

use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Fleet};

use super::rush::rush;
use crate::Outcome;
use crate::bench::{Bench, PATIENCE, SETTLE, Spans, named, start, start_all};
use crate::figures::percentile;
use crate::peer::{Part, Peer};
use crate::process::Process;
use crate::rows;
use crate::worker::{Request, Threads};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Dead,
    Paused,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Paused => "paused",
        }
    }

    fn happen(self, fleet: &mut Fleet, node: usize) {
        match self {
            Self::Dead => fleet[node].kill(),
            Self::Paused => fleet[node].pause(),
        }
    }

    fn repair(self, fleet: &mut Fleet, node: usize) -> Outcome<()> {
        match self {
            Self::Dead => fleet[node].restart(Data::Empty)?,
            Self::Paused => fleet[node].resume(),
        }
        Ok(())
    }
}

/// A worker, and how it fared when all was well.
struct Healthy<'a> {
    peer: &'a Peer,
    worker: Process,
    acquire_p50: f64,
    /// None for clients that are so slow with a bad node that a rush would take minutes.
    per_second: Option<f64>,
}

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    for fault in [Fault::Dead, Fault::Paused] {
        let mut peers = bench.peers(Part::Faults);
        if bench.round == 0 {
            peers.extend(bench.peers(Part::FaultOnce));
        }
        // Half a second for every acquire, and as much for the release: a few rounds must suffice.
        if fault == Fault::Paused && bench.round >= 3 {
            peers.retain(|peer| !crawls(peer, fault));
        }
        one(bench, &peers, fault)?;
    }
    Ok(())
}

/// Whether a peer takes so long for each lock that a few must do.
fn crawls(peer: &Peer, fault: Fault) -> bool {
    peer.takes_part_in(Part::FaultOnce) || fault == Fault::Paused && peer.name == "rslock"
}

fn one(bench: &mut Bench, peers: &[Peer], fault: Fault) -> Outcome<()> {
    let urls = bench.fresh(5)?;
    let node = bench.round % urls.len();
    let mut workers = Vec::new();
    for (peer, mut worker) in start_all(peers, Threads::All, &urls)? {
        let ops = Request::Sequence { ops: peer.turn };
        let figures = worker.request(&ops, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        let acquire_p50 = Spans::p50(&Spans::of(&figures).acquires);
        let per_second = (!crawls(peer, fault)).then(|| rush(peer, &mut worker, 64, SPAN)).transpose()?;
        workers.push(Healthy {
            peer,
            worker,
            acquire_p50,
            per_second: per_second.map(|(per_second, _)| per_second),
        });
    }
    fault.happen(&mut bench.fleet, node);
    let measured = bad(bench, &mut workers, fault, &urls);
    fault.repair(&mut bench.fleet, node)?;
    measured?;
    // A node that was paused wakes up to all it was sent; a client with pending releases sends them as soon as it has
    // reached it again: quorlock rests for two seconds at most between two dials.
    thread::sleep(WAKE_UP);
    // A release without a reply does not count as a released lock.
    let those: Vec<Peer> = peers.iter().filter(|peer| !crawls(peer, fault)).cloned().collect();
    bench.left_over("faults", &those)
}

/// While the node is bad.
fn bad(bench: &mut Bench, workers: &mut [Healthy<'_>], fault: Fault, urls: &[String]) -> Outcome<()> {
    let after = format!("{} after connect", fault.name());
    for healthy in &mut *workers {
        put_sequence(bench, &after, healthy, None, fault);
    }
    // What counts is how it goes on: quorlock gives the connection up after four reply timeouts.
    thread::sleep(PAST_REDIAL);
    for healthy in &mut *workers {
        put_rush(bench, &after, healthy, None)?;
    }
    let before = format!("{} before connect", fault.name());
    for healthy in &mut *workers {
        if healthy.peer.takes_part_in(Part::FaultOnce) {
            continue;
        }
        // No warm-up: the first acquire comes right behind the dial.
        let mut late = start(healthy.peer, Threads::All, urls)?;
        put_sequence(bench, &before, healthy, Some(&mut late), fault);
        put_rush(bench, &before, healthy, Some(&mut late))?;
        thread::sleep(SETTLE);
    }
    Ok(())
}

fn put_sequence(
    bench: &mut Bench,
    title: &str,
    healthy: &mut Healthy<'_>,
    late: Option<&mut Process>,
    fault: Fault,
) {
    let is_slow = crawls(healthy.peer, fault);
    let (ops, patience) = if is_slow { (1, SHORT_PATIENCE) } else { (OPS, PATIENCE) };
    let answer = late.unwrap_or(&mut healthy.worker).request(&Request::Sequence { ops }, patience);
    let (p50, longest) = match answer {
        Ok(figures) => {
            let acquires = Spans::of(&figures).acquires;
            (Spans::p50(&acquires), percentile(acquires, 1.0))
        }
        Err(trouble) => {
            eprintln!("{}, one of five nodes {title}: {trouble}", healthy.peer.name);
            (trouble.figure(), trouble.figure())
        }
    };
    let name = &healthy.peer.name;
    bench.book.put(&rows::fault(title, rows::HURT), name, p50);
    bench.book.put(&rows::fault(title, rows::HURT_P50), name, p50 / healthy.acquire_p50);
    bench.book.put(&rows::fault(title, rows::LONGEST), name, longest / 1000.0);
}

fn put_rush(
    bench: &mut Bench,
    title: &str,
    healthy: &mut Healthy<'_>,
    late: Option<&mut Process>,
) -> Outcome<()> {
    let Some(well) = healthy.per_second else { return Ok(()) };
    let (per_second, _) = rush(healthy.peer, late.unwrap_or(&mut healthy.worker), 64, SPAN)?;
    bench.book.put(&rows::fault(title, rows::HURT_RATE), &healthy.peer.name, per_second / well);
    Ok(())
}

const OPS: usize = 1000;
const SPAN: Duration = Duration::from_millis(600);
const SHORT_PATIENCE: Duration = Duration::from_secs(12);
const PAST_REDIAL: Duration = Duration::from_millis(2200);
const WAKE_UP: Duration = Duration::from_millis(3500);
