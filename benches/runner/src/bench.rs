//! Servers, peers and figures, and the rounds over them.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use quorlock::Redlock;
use quorlock_chaos::{Fleet, Setup};
use tokio::runtime::{Builder, Runtime};

use crate::about::about;
use crate::book::Book;
use crate::figures::percentile;
use crate::machine::load;
use crate::options::Options;
use crate::peer::{Part, Peer, in_turn};
use crate::process::{Process, Trouble};
use crate::rows;
use crate::worker::{Job, Request, Threads, slug};
use crate::{Outcome, report};

/// A client that this program can be the worker of.
pub(crate) type Serve = fn(&Job) -> Outcome<()>;

pub(crate) struct Bench {
    pub(crate) fleet: Fleet,
    pub(crate) book: Book,
    pub(crate) round: usize,
    pub(crate) runtime: Runtime,
    peers: Vec<Peer>,
}

/// Measures `peers`, or works as one of `own`: it depends on what the program is started with.
pub fn main(peers: &[Peer], own: &[(&str, Serve)], versions: &[(String, String)]) -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == "worker"
    {
        let job = Job::of(rest)?;
        let (_, serve) = own.iter().find(|(name, _)| *name == job.name).ok_or("unknown worker")?;
        return serve(&job);
    }
    let options = Options::of(&args)?;
    let book = options.figures.as_deref().map_or_else(|| Ok(Book::default()), Book::open)?;
    if options.rounds == 0 {
        // Only what there is already.
        return report::hand_in(&book, options.report.as_deref());
    }
    let fleet = Fleet::start_with(MOST_NODES, &Setup::new().append_only(false))?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut bench = Bench { fleet, book, round: 0, runtime, peers: peers.to_vec() };
    bench.run(&options, versions)?;
    report::hand_in(&bench.book, options.report.as_deref())
}

impl Bench {
    fn run(&mut self, options: &Options, versions: &[(String, String)]) -> Outcome<()> {
        let (begin, before) = (Instant::now(), load());
        for (what, words) in about(&self.fleet)?.iter().chain(versions) {
            self.book.note(what, words)?;
        }
        let mut parts = 0;
        for round in 0..options.rounds {
            self.round = round;
            for (part, measure) in crate::parts::ALL {
                if options.wants(part) && !self.book.is_done(round, part) {
                    eprintln!("round {} of {}, {part}, load {}", round + 1, options.rounds, load());
                    measure(self)?;
                    self.book.close(round, part)?;
                    parts += 1;
                }
            }
        }
        let span = begin.elapsed().as_secs_f64();
        let words = format!(
            "{parts} parts of them in {span:.0} s, load average {before} before and {} after",
            load()
        );
        self.book.note("run", &words)
    }

    /// The peers of this round, in its order.
    pub(crate) fn peers(&self, part: Part) -> Vec<Peer> {
        in_turn(&self.peers, part, self.round).into_iter().cloned().collect()
    }

    /// Servers that know of nothing but a new cluster of the first `nodes`, declared: they vote at once.
    pub(crate) fn fresh(&self, nodes: usize) -> Outcome<Vec<String>> {
        for server in self.fleet.servers() {
            server.wipe()?;
        }
        let urls = self.fleet.urls()[..nodes].to_vec();
        self.runtime.block_on(Redlock::builder().nodes(&urls).init(false))?;
        Ok(urls)
    }

    /// Counts the keys that each of them left though it released all it took.
    pub(crate) fn left_over(&mut self, part: &str, peers: &[Peer]) -> Outcome<()> {
        // Waits for the replies that no client waited for.
        thread::sleep(SETTLE);
        let mut keys = Vec::new();
        for server in self.fleet.servers() {
            keys.extend(server.command::<Vec<String>>(&["KEYS", "*bench:*"])?);
        }
        // The numbers that fenced mode keeps stay, on purpose.
        keys.retain(|key| !key.starts_with("quorlock:"));
        for peer in peers {
            let mark = format!("bench:{}:", slug(&peer.name));
            let count = keys.iter().filter(|key| key.contains(&mark)).count();
            self.book.put(&rows::left_over(part), &peer.name, count as f64);
        }
        Ok(())
    }
}

pub(crate) fn start(peer: &Peer, threads: Threads, urls: &[String]) -> Outcome<Process> {
    Process::start(peer.command(&[], threads, urls), PATIENCE)
        .map_err(|error| format!("{}: {error}", peer.name).into())
}

/// A worker for each of them, warmed up.
pub(crate) fn start_all<'a>(
    peers: &'a [Peer],
    threads: Threads,
    urls: &[String],
) -> Outcome<Vec<(&'a Peer, Process)>> {
    let mut workers = Vec::new();
    for peer in peers {
        let mut worker = start(peer, threads, urls)?;
        let ops = peer.turn.min(WARM_UP);
        worker.request(&Request::Work { ops }, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        workers.push((peer, worker));
    }
    Ok(workers)
}

/// Trouble that ends the bench says whose it is.
pub(crate) fn named(peer: &Peer, trouble: &Trouble) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{}: {trouble}", peer.name).into()
}

/// The results of a sequence: the median and the last hundredth of acquire, and of release.
pub(crate) struct Spans {
    pub(crate) acquires: Vec<f64>,
    pub(crate) releases: Vec<f64>,
}

impl Spans {
    pub(crate) fn of(figures: &[f64]) -> Self {
        let (pairs, _) = figures.as_chunks();
        let (acquires, releases) = pairs.iter().map(|[acquire, release]| (*acquire, *release)).unzip();
        Self { acquires, releases }
    }

    pub(crate) fn p50(figures: &[f64]) -> f64 {
        percentile(figures.to_vec(), 0.5)
    }
}

const MOST_NODES: usize = 7;
const WARM_UP: usize = 100;
/// Waits for the replies that no client waited for.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
