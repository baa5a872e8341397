//! One run from the first server to the last event: the main one, or a negative control.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use quorlock::Redlock;
use rustix::process::Signal;

use super::client_pool::ClientPool;
use super::log::EventLog;
use super::sampler::Sampler;
use super::timing::{
    BLOCK_SLACK, CLIENT_STOP_TIMEOUT, DIAL_TIMEOUT, LONG_WAITS_MS, MAX_TTL, PROGRESS_INTERVAL, RECOVERY,
    REPLY_TIMEOUT, SLACK, STARVATION, TARGET_PAUSE, TARGET_TRIES, TTL, WAITS_MS,
};
use super::{Config, Progress, RunError, StopSignal};
use crate::faults::{Injection, InjectionError, Nodes, PlannedFault, Prepared, Sides};
use crate::history::{self, Control, EventKind, History, Settings};
use crate::workload::{ClientCommand, Spec};
use crate::{ClockLibrary, Data, Server, Setup};

/// A run, set up.
pub(super) struct RunSpec<'a> {
    pub(super) config: &'a Config,
    pub(super) name: &'static str,
    /// The planned faults, ordered by when they begin.
    pub(super) steps: Vec<PlannedFault>,
    pub(super) duration: Duration,
    pub(super) cancels: bool,
    /// Tasks of each client, and how many locks there are for all of them.
    pub(super) tasks: u32,
    pub(super) keys: usize,
    /// How many, out of a hundred of the others, are held for longer than their ttl.
    pub(super) long_holds: u64,
    /// How many locks, out of a hundred, are held for some three ttls and more.
    pub(super) very_long_holds: u64,
    /// Whether clients always wait for long. A client that gives up retries once before, and so often gets the lock.
    pub(super) has_long_waits: bool,
    /// Whether some lock must be held long enough, while a node is healthy, to be checked for redundancy.
    pub(super) checks_redundancy: bool,
    pub(super) controls: Vec<Control>,
    pub(super) server: ServerSettings,
}

/// The settings of servers and clients.
pub(super) struct ServerSettings {
    pub(super) setup: Setup,
    pub(super) drift_ppm: u32,
    pub(super) is_fenced: bool,
}

/// The state of a stage while it runs.
struct RunState<'a> {
    spec: &'a RunSpec<'a>,
    nodes: &'a Nodes,
    clients: ClientPool<'a>,
    log: Arc<EventLog>,
    stop: StopSignal,
    stores: PathBuf,
    /// The numbers of the faults that last from before the first client to the end.
    whole_run_faults: Vec<u64>,
}

impl RunSpec<'_> {
    pub(super) fn run(
        &self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<History, RunError> {
        let nodes = Nodes::start(self.config.nodes, &self.server.setup, self.keys().collect())?;
        let server = nodes.with(0, server_name)?;
        for step in self.whole_run_faults() {
            for node in &step.nodes {
                nodes.begin(*node, step.injection, step.lasts, &Prepared::Data(Data::Kept))?;
            }
        }
        if self.server.is_fenced {
            initialize(nodes.direct_urls())?;
        }
        let no_clients = |error: std::io::Error| RunError::Clients(error.to_string());
        // In a server's folder, because that is removed in every case.
        let stores = nodes.with(0, |server| server.dir().join("stores"));
        fs::create_dir(&stores).map_err(no_clients)?;
        let log = Arc::new(EventLog::default());
        log.record(EventKind::Settings(self.settings(server)));
        let tell = |step: &PlannedFault| {
            let fault = log.record_fault(step.injection, &step.nodes, &[]);
            log.record(EventKind::FaultApplied { fault });
            fault
        };
        let lasting = self.whole_run_faults().map(tell).collect();
        let crew = ClientPool::new(self.config, Arc::clone(&log));
        let scene = RunState {
            spec: self,
            nodes: &nodes,
            clients: crew,
            log,
            stop: StopSignal::default(),
            stores,
            whole_run_faults: lasting,
        };
        let keys: Vec<String> = scene.keys().collect();
        let sampler = Sampler::start(nodes.direct_urls(), &keys, &scene.log).map_err(no_clients)?;
        for _ in 0..self.config.clients {
            scene.start_client().map_err(no_clients)?;
        }
        scene.run_faults(progress)?;
        scene.wait_for_recovery(sampler, progress)?.map_err(no_clients)?;
        Ok(scene.log.history())
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        (0..self.keys).map(|key| format!("chaos:{key}"))
    }

    /// The faults that begin before the first client.
    fn whole_run_faults(&self) -> impl Iterator<Item = &PlannedFault> {
        self.steps.iter().filter(|step| step.injection.kind().is_of_whole_run())
    }

    fn settings(&self, server: String) -> Settings {
        let millis = |span: Duration| span.as_millis() as u64;
        Settings {
            seed: self.config.seed,
            replay: self.config.replay.clone(),
            description: self.config.description.clone(),
            server,
            nodes: self.config.nodes,
            quorum: self.config.nodes / 2 + 1,
            max_ttl_ms: millis(MAX_TTL),
            drift_ppm: self.server.drift_ppm,
            reply_timeout_ms: millis(REPLY_TIMEOUT),
            fenced: self.server.is_fenced,
            probation: self.server.is_fenced,
            recovery_ms: millis(MAX_TTL + RECOVERY),
            starvation_ms: Some(millis(STARVATION)),
            slack_ms: millis(SLACK),
            checks_redundancy: self.checks_redundancy,
            controls: self.controls.clone(),
        }
    }
}

impl RunState<'_> {
    /// Starts a client. Every second one is on the other side of the network; every third renews on a thread of its
    /// own.
    fn start_client(&self) -> std::io::Result<()> {
        let RunSpec {
            config,
            server: terms,
            cancels: drops,
            tasks,
            long_holds,
            very_long_holds: lasting_holds,
            has_long_waits: are_patient,
            ..
        } = self.spec;
        self.clients.start_client(|process| Spec {
            process,
            seed: config.seed,
            urls: self.nodes.urls(process as usize % Sides::COUNT),
            tasks: *tasks,
            keys: self.keys().collect(),
            ttl_ms: TTL.as_millis() as u64,
            max_ttl_ms: MAX_TTL.as_millis() as u64,
            reply_timeout_ms: REPLY_TIMEOUT.as_millis() as u64,
            drift: f64::from(terms.drift_ppm) / 1e6,
            is_fenced: terms.is_fenced,
            has_thread: process % 3 == 0,
            long_holds: *long_holds,
            very_long_holds: *lasting_holds,
            cancels: *drops,
            waits_ms: if *are_patient { LONG_WAITS_MS.into() } else { WAITS_MS.into() },
            stores: self.stores.clone(),
        })
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        self.spec.keys()
    }

    /// Executes the plan, each fault on a thread of its own, so that they overlap.
    fn run_faults(&self, progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<(), RunError> {
        let from = history::now();
        let past = || Duration::from_nanos(history::now().saturating_sub(from));
        thread::scope(|scope| {
            let done_in_time = |step: &&PlannedFault| !step.injection.kind().is_of_whole_run();
            let mut steps = self.spec.steps.iter().filter(done_in_time).peekable();
            let mut under_way = Vec::new();
            while past() < self.spec.duration {
                while let Some(step) = steps.next_if(|step| step.at <= past()) {
                    under_way.push(scope.spawn(move || self.inject(step)));
                }
                let next = steps
                    .peek()
                    .map_or(PROGRESS_INTERVAL, |step| step.at.saturating_sub(past()).min(PROGRESS_INTERVAL));
                self.stop.sleep(next.max(Duration::from_millis(1)));
                self.show(self.spec.name, past(), self.spec.duration, progress)?;
            }
            let from = history::now();
            let past = || Duration::from_nanos(history::now().saturating_sub(from));
            while under_way.iter().any(|fault| !fault.is_finished()) {
                self.stop.sleep(PROGRESS_INTERVAL);
                self.show("recovering", past(), Duration::ZERO, progress)?;
            }
            Ok(())
        })
    }

    /// Reports progress, and ends the run if the callback asks for it.
    fn show(
        &self,
        stage: &'static str,
        past: Duration,
        of: Duration,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), RunError> {
        let (faults, last_fault) = self.log.faults();
        let now = Progress {
            stage,
            elapsed: past,
            total: of,
            acquisitions: self.log.acquisitions(),
            faults,
            last_fault,
        };
        if progress(&now).is_break() {
            self.stop.set();
            return Err(RunError::Interrupted);
        }
        Ok(())
    }

    /// Lets all clients end, which takes some seconds, and reports progress meanwhile.
    fn wait_for_recovery(
        &self,
        sampler: Sampler,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<std::io::Result<()>, RunError> {
        let from = history::now();
        let past = || Duration::from_nanos(history::now().saturating_sub(from));
        thread::scope(|scope| {
            let ending = scope.spawn(|| self.end(sampler));
            while !ending.is_finished() {
                thread::sleep(PROGRESS_INTERVAL);
                self.show("settling", past(), Duration::ZERO, progress)?;
            }
            Ok(ending.join().expect("no panic"))
        })
    }

    fn inject(&self, step: &PlannedFault) {
        let done = match step.injection {
            Injection::ClientStop { .. } | Injection::ClientKill { .. } | Injection::BlockRuntime { .. } => {
                self.inject_into_client(step)
            }
            _ => self.inject_into_nodes(step),
        };
        if let Err(error) = done {
            self.log.record_error(format!("{}: {error}", step.injection.kind()));
        }
    }

    fn inject_into_nodes(&self, step: &PlannedFault) -> Result<(), InjectionError> {
        let PlannedFault { injection: act, nodes, lasts, .. } = step;
        let fault = self.log.record_fault(*act, nodes, &[]);
        let (left_to_begin, mending) = (AtomicUsize::new(nodes.len()), Once::new());
        let outcome = on_each_node(nodes, |node| {
            let _alone = self.nodes.reserve(node, *act);
            let prepared = self.nodes.prepare(node, *act)?;
            self.nodes.begin(node, *act, *lasts, &prepared)?;
            if left_to_begin.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.log.record(EventKind::FaultApplied { fault });
            }
            self.stop.sleep(*lasts);
            // It is recorded before the fault ends on the first node: the others wait for that.
            mending.call_once(|| self.log.record(EventKind::FaultEnding { fault }));
            self.nodes.end(node, *act, prepared)
        });
        self.log.record_fault_end(fault);
        outcome
    }

    fn inject_into_client(&self, step: &PlannedFault) -> Result<(), InjectionError> {
        // Perhaps no client holds or waits right now; if none appears, the fault is skipped.
        let mut found = self.target(step.injection);
        for _ in 0..TARGET_TRIES {
            if found.is_some() {
                break;
            }
            self.stop.sleep(TARGET_PAUSE);
            found = self.target(step.injection);
        }
        let Some(process) = found else { return Ok(()) };
        let tell = || self.log.record_fault(step.injection, &[], &[process]);
        match step.injection {
            Injection::ClientKill { .. } => {
                // Recorded when the client surely runs no more: all its events until then are true.
                self.clients.signal(process, Signal::STOP)?;
                tell();
                self.clients.kill(process);
                self.start_client()?;
            }
            Injection::BlockRuntime { .. } => {
                let fault = tell();
                self.clients
                    .send(process, &ClientCommand::Block { millis: step.lasts.as_millis() as u64 })?;
                self.stop.sleep(step.lasts + BLOCK_SLACK);
                self.log.record_fault_end(fault);
            }
            _ => {
                let fault = tell();
                self.clients.signal(process, Signal::STOP)?;
                self.stop.sleep(step.lasts);
                self.clients.signal(process, Signal::CONT)?;
                self.log.record_fault_end(fault);
            }
        }
        self.clients.unreserve(process);
        Ok(())
    }

    /// A client that holds a lock, or waits for one, as the fault wants it.
    fn target(&self, act: Injection) -> Option<u32> {
        match act {
            Injection::ClientKill { draw, holds: false } => self.clients.reserve(&self.log.waiters(), draw),
            Injection::ClientStop { draw }
            | Injection::ClientKill { draw, .. }
            | Injection::BlockRuntime { draw } => self.clients.reserve(&self.log.holders(), draw),
            _ => None,
        }
    }

    /// Lets all clients end, then records the keys that are left on the nodes.
    fn end(&self, sampler: Sampler) -> std::io::Result<()> {
        self.log.begin_shutdown();
        for (process, words) in self.clients.stop_all(CLIENT_STOP_TIMEOUT)? {
            self.log.record_error(format!("client {process} {words}"));
        }
        drop(sampler);
        // A killed client had a lock for a ttl at most.
        thread::sleep(TTL + SLACK);
        for node in 0..self.nodes.count() {
            for key in self.keys() {
                match self.nodes.with(node, |server| server.command::<i64>(&["PTTL", &key])) {
                    Ok(-2) => {}
                    Ok(ttl_ms) => self.log.record(EventKind::KeyLeft { node, key, ttl_ms }),
                    Err(error) => {
                        self.log.record_error(format!("node {node} does not reply at the end: {error}"));
                    }
                }
            }
        }
        for fault in self.whole_run_faults.iter().copied() {
            self.log.record(EventKind::FaultEnding { fault });
            self.log.record_fault_end(fault);
        }
        self.log.record(EventKind::Finished);
        Ok(())
    }
}

/// Does something to each of these nodes at once; the first error, if there is one.
fn on_each_node(
    nodes: &[usize],
    work: impl Fn(usize) -> Result<(), InjectionError> + Sync,
) -> Result<(), InjectionError> {
    thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| work(*node))).collect();
        // All of them are joined before the first error is returned.
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        outcomes.into_iter().collect()
    })
}

/// Initializes new servers as the lock cluster.
fn initialize(urls: Vec<String>) -> Result<(), RunError> {
    let failed = |error: &dyn std::error::Error| RunError::Servers(error.to_string());
    let declared = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let builder = Redlock::builder().nodes(urls).max_ttl(MAX_TTL).dial_timeout(DIAL_TIMEOUT);
        runtime.map(|runtime| runtime.block_on(builder.init(false)))
    });
    match declared.join().expect("no panic") {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// The server's name and version.
fn server_name(server: &Server) -> Result<String, InjectionError> {
    let info: String = server.command(&["INFO", "server"])?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let valkey = field("valkey_version:").map(|version| format!("Valkey {version}"));
    Ok(valkey.unwrap_or_else(|| format!("Redis {}", field("redis_version:").unwrap_or("of no version"))))
}

/// Whether the server's clock can really be set by this library.
pub(super) fn has_clock(config: &Config, library: &ClockLibrary) -> Result<bool, InjectionError> {
    let mut setup = Setup::new().clocks(library);
    if let Some(binary) = &config.server {
        setup = setup.binary(binary);
    }
    let server = Server::start(&setup)?;
    let seconds = || server.command::<(i64, i64)>(&["TIME"]).map(|(seconds, _)| seconds);
    let before = seconds()?;
    server.clock().ok_or(InjectionError::NoClock)?.step(1_000_000_000)?;
    Ok(seconds()? - before > 900)
}
