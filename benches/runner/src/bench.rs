//! The bench: servers, clients and results, and the loop over the rounds.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use quorlock::Redlock;
use quorlock_chaos::{Fleet, Setup};
use tokio::runtime::{Builder, Runtime};

use crate::environment::environment;
use crate::machine::load;
use crate::metrics;
use crate::options::Options;
use crate::peer::{Part, Peer, in_rotated_order};
use crate::process::{Process, WorkerError};
use crate::results_store::ResultsStore;
use crate::stats::percentile;
use crate::worker::{Request, Threads, WorkerArgs, slug};
use crate::{Outcome, report};

/// The main function of a worker process that is built into this program.
pub(crate) type Serve = fn(&WorkerArgs) -> Outcome<()>;

pub(crate) struct Bench {
    pub(crate) fleet: Fleet,
    pub(crate) store: ResultsStore,
    pub(crate) round: usize,
    pub(crate) runtime: Runtime,
    peers: Vec<Peer>,
}

/// Measures `peers`, or serves as one of the workers `own` if the first argument is `worker`.
pub fn main(peers: &[Peer], own: &[(&str, Serve)], versions: &[(String, String)]) -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == "worker"
    {
        let args = WorkerArgs::parse(rest)?;
        let (_, serve) = own.iter().find(|(name, _)| *name == args.name).ok_or("unknown worker")?;
        return serve(&args);
    }
    let options = Options::parse();
    let store = options.results.as_deref().map_or_else(|| Ok(ResultsStore::default()), ResultsStore::open)?;
    if options.rounds == 0 {
        // No measurement: only report the stored results.
        return report::write_report(&store, options.report.as_deref());
    }
    let fleet = Fleet::start_with(MAX_NODES, &Setup::new().append_only(false))?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut bench = Bench { fleet, store, round: 0, runtime, peers: peers.to_vec() };
    bench.run(&options, versions)?;
    report::write_report(&bench.store, options.report.as_deref())
}

impl Bench {
    fn run(&mut self, options: &Options, versions: &[(String, String)]) -> Outcome<()> {
        let (begin, before) = (Instant::now(), load());
        for (field, text) in environment(&self.fleet)?.iter().chain(versions) {
            self.store.note_environment(field, text)?;
        }
        let mut parts = 0;
        for round in 0..options.rounds {
            self.round = round;
            for (part, measure) in crate::parts::ALL {
                if options.wants(part) && !self.store.is_done(round, part) {
                    eprintln!("round {} of {}, {part}, load {}", round + 1, options.rounds, load());
                    measure(self)?;
                    self.store.finish_part(round, part)?;
                    parts += 1;
                }
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        let text =
            format!("{parts} parts in {seconds:.0} s, load average {before} before and {} after", load());
        self.store.note_environment("run", &text)
    }

    /// The peers of this part, in the order of this round.
    pub(crate) fn peers(&self, part: Part) -> Vec<Peer> {
        in_rotated_order(&self.peers, part, self.round).into_iter().cloned().collect()
    }

    /// Wipes all servers and initializes a new lock cluster on the first `nodes`, so that they vote at once.
    pub(crate) fn new_lock_cluster(&self, nodes: usize) -> Outcome<Vec<String>> {
        for server in self.fleet.servers() {
            server.wipe()?;
        }
        let urls = self.fleet.urls()[..nodes].to_vec();
        self.runtime.block_on(Redlock::builder().nodes(&urls).initialize())?;
        Ok(urls)
    }

    /// Counts the keys that each peer left on the servers although it released all its locks.
    pub(crate) fn leftover_keys(&mut self, part: &str, peers: &[Peer]) -> Outcome<()> {
        thread::sleep(SETTLE);
        let mut keys = Vec::new();
        for server in self.fleet.servers() {
            keys.extend(server.command::<Vec<String>>(&["KEYS", "*bench:*"])?);
        }
        // Fences and markers of fenced mode stay on purpose.
        keys.retain(|key| !key.starts_with("quorlock:"));
        for peer in peers {
            let prefix = format!("bench:{}:", slug(&peer.name));
            let count = keys.iter().filter(|key| key.contains(&prefix)).count();
            self.store.record(&metrics::leftover_keys(part), &peer.name, count as f64);
        }
        Ok(())
    }
}

pub(crate) fn start(peer: &Peer, threads: Threads, urls: &[String]) -> Outcome<Process> {
    Process::start(peer.command(&[], threads, urls), TIMEOUT)
        .map_err(|error| format!("{}: {error}", peer.name).into())
}

/// Starts a worker for each peer and warms it up.
pub(crate) fn start_all<'a>(
    peers: &'a [Peer],
    threads: Threads,
    urls: &[String],
) -> Outcome<Vec<(&'a Peer, Process)>> {
    let mut workers = Vec::new();
    for peer in peers {
        let mut worker = start(peer, threads, urls)?;
        let ops = peer.batch.min(WARM_UP);
        worker.request(&Request::Untimed { ops }, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
        workers.push((peer, worker));
    }
    Ok(workers)
}

/// Puts the name of the peer in front of the error.
pub(crate) fn with_peer_name(peer: &Peer, error: &WorkerError) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{}: {error}", peer.name).into()
}

/// The microseconds of the acquires and of the releases of a sequence.
pub(crate) struct Timings {
    pub(crate) acquires: Vec<f64>,
    pub(crate) releases: Vec<f64>,
}

impl Timings {
    pub(crate) fn from_pairs(micros: &[f64]) -> Self {
        let (pairs, _) = micros.as_chunks();
        let (acquires, releases) = pairs.iter().map(|[acquire, release]| (*acquire, *release)).unzip();
        Self { acquires, releases }
    }

    pub(crate) fn p50(micros: &[f64]) -> f64 {
        percentile(micros.to_vec(), 0.5)
    }
}

const MAX_NODES: usize = 7;
const WARM_UP: usize = 100;
/// How long to wait for the late replies that no client waits for.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
