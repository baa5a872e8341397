//! Executes one run, from the first server to the last event: the main run or a negative control.

mod inject;

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quorlock::Redlock;

use super::client_pool::ClientPool;
use super::log::EventLog;
use super::roster_limits::RosterLimits;
use super::sampler::Sampler;
use super::timing::{
    CLIENT_STOP_TIMEOUT, DIAL_TIMEOUT, LONG_WAITS_MS, MAX_TTL, PROGRESS_INTERVAL, RECOVERY, REPLY_TIMEOUT,
    SLACK, STARVATION, TTL, WAITS_MS,
};
use super::{Config, Progress, RunError, StopSignal};
use crate::faults::{FaultKind, InjectionError, Nodes, PlannedFault, Prepared, Sides};
use crate::history::{self, EventKind, History, NegativeControl, Settings};
use crate::workload::ClientSpec;
use crate::{ClockLibrary, Data, Server, Setup};

/// The specification of a run.
pub(super) struct RunSpec<'a> {
    pub(super) config: &'a Config,
    pub(super) name: &'static str,
    /// The planned faults, ordered by start time.
    pub(super) faults: Vec<PlannedFault>,
    pub(super) duration: Duration,
    /// Whether clients sometimes drop futures.
    pub(super) cancels: bool,
    /// The number of tasks of each client.
    pub(super) tasks: u32,
    /// The number of locks, for all clients.
    pub(super) keys: usize,
    /// The percentage of locks, of those that are not held for very long, that are held for longer than their
    /// ttl.
    pub(super) long_holds: u64,
    /// The percentage of locks that are held for about three ttls.
    pub(super) very_long_holds: u64,
    /// Whether clients always wait for long. A client whose wait ends makes a last attempt, which hides a
    /// stall.
    pub(super) has_long_waits: bool,
    /// Whether some lock must be held long enough to be checked for redundancy.
    pub(super) checks_redundancy: bool,
    pub(super) controls: Vec<NegativeControl>,
    pub(super) server: ServerSettings,
}

/// The settings of the servers, and the matching ones of clients.
#[derive(Clone)]
pub(super) struct ServerSettings {
    pub(super) setup: Setup,
    pub(super) drift_ppm: u32,
    pub(super) is_fenced: bool,
}

/// The state of a run while it is executed.
struct RunState<'a> {
    spec: &'a RunSpec<'a>,
    nodes: &'a Nodes,
    clients: ClientPool<'a>,
    log: Arc<EventLog>,
    stop: StopSignal,
    stores: PathBuf,
    limits: RosterLimits,
    /// The ids of the faults that last for the whole run.
    whole_run_faults: Vec<u64>,
}

impl RunSpec<'_> {
    pub(super) fn run(
        &self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<History, RunError> {
        let nodes = Nodes::start(self.config.nodes, &self.server.setup, self.keys().collect())?;
        let server = nodes.with_server(0, server_name)?;
        for planned in self.whole_run_faults() {
            for node in &planned.nodes {
                nodes.begin(*node, planned.injection, planned.duration, &mut Prepared::Data(Data::Kept))?;
            }
        }
        if self.server.is_fenced {
            let urls = nodes.direct_urls().iter().map(|url| url.borrow().clone()).collect();
            initialize(urls, nodes.names())?;
        }
        nodes.start_blank(self.blank_servers())?;
        let no_clients = |error: std::io::Error| RunError::Clients(error.to_string());
        // In a server's folder, because the watchdog removes that in every case.
        let stores = nodes.with_server(0, |server| server.dir().join("stores"));
        fs::create_dir(&stores).map_err(no_clients)?;
        let log = Arc::new(EventLog::default());
        log.record(EventKind::Settings(self.settings(server)));
        let record = |planned: &PlannedFault| {
            let fault = log.record_fault(planned.injection, &planned.nodes, &[]);
            log.record(EventKind::FaultApplied { fault });
            fault
        };
        let whole_run_faults = self.whole_run_faults().map(record).collect();
        let clients = ClientPool::new(self.config, Arc::clone(&log));
        let state = RunState {
            spec: self,
            nodes: &nodes,
            clients,
            log,
            stop: StopSignal::default(),
            stores,
            limits: RosterLimits::new(self.config.nodes, self.server.is_fenced),
            whole_run_faults,
        };
        let keys: Vec<String> = state.keys().collect();
        let sampler = Sampler::start(nodes.direct_urls(), &keys, &state.log).map_err(no_clients)?;
        for _ in 0..self.config.clients {
            state.start_client().map_err(no_clients)?;
        }
        state.run_faults(progress)?;
        state.wait_for_recovery(sampler, progress)?.map_err(no_clients)?;
        Ok(state.log.history())
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        (0..self.keys).map(|key| format!("chaos:{key}"))
    }

    /// The faults that last from before the first client to the end.
    fn whole_run_faults(&self) -> impl Iterator<Item = &PlannedFault> {
        self.faults.iter().filter(|planned| planned.injection.kind().is_of_whole_run())
    }

    /// The largest number of blank servers that one fault needs.
    fn blank_servers(&self) -> usize {
        let needs = |fault: &&PlannedFault| {
            matches!(fault.injection.kind(), FaultKind::AddressMove | FaultKind::Reconfiguration)
        };
        let faults = self.faults.iter().filter(needs);
        faults.map(|fault| fault.nodes.len()).max().unwrap_or(0)
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
    /// Starts a client. Every second client uses the other side of the network; every third has a dedicated
    /// thread for its driver.
    fn start_client(&self) -> std::io::Result<()> {
        let RunSpec { config, server, cancels, tasks, long_holds, very_long_holds, has_long_waits, .. } =
            self.spec;
        self.clients.start_client(|process| ClientSpec {
            process,
            seed: config.seed,
            urls: self.nodes.urls(process as usize % Sides::COUNT),
            node_names: self.nodes.names(),
            tasks: *tasks,
            keys: self.keys().collect(),
            ttl_ms: TTL.as_millis() as u64,
            max_ttl_ms: MAX_TTL.as_millis() as u64,
            reply_timeout_ms: REPLY_TIMEOUT.as_millis() as u64,
            drift: f64::from(server.drift_ppm) / 1e6,
            is_fenced: server.is_fenced,
            has_thread: process % 3 == 0,
            long_holds: *long_holds,
            very_long_holds: *very_long_holds,
            cancels: *cancels,
            waits_ms: if *has_long_waits { LONG_WAITS_MS.into() } else { WAITS_MS.into() },
            stores: self.stores.clone(),
        })
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        self.spec.keys()
    }

    /// Executes the planned faults, each on its own thread, so that they can overlap.
    fn run_faults(&self, progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<(), RunError> {
        let from = history::now();
        let elapsed = || Duration::from_nanos(history::now().saturating_sub(from));
        thread::scope(|scope| {
            let is_scheduled = |planned: &&PlannedFault| !planned.injection.kind().is_of_whole_run();
            let mut faults = self.spec.faults.iter().filter(is_scheduled).peekable();
            let mut injections = Vec::new();
            while elapsed() < self.spec.duration {
                while let Some(planned) = faults.next_if(|planned| planned.at <= elapsed()) {
                    injections.push(scope.spawn(move || self.inject(planned)));
                }
                let next = faults.peek().map_or(PROGRESS_INTERVAL, |planned| {
                    planned.at.saturating_sub(elapsed()).min(PROGRESS_INTERVAL)
                });
                self.stop.sleep(next.max(Duration::from_millis(1)));
                self.report_progress(self.spec.name, elapsed(), self.spec.duration, progress)?;
            }
            let from = history::now();
            let elapsed = || Duration::from_nanos(history::now().saturating_sub(from));
            while injections.iter().any(|fault| !fault.is_finished()) {
                self.stop.sleep(PROGRESS_INTERVAL);
                self.report_progress("recovering", elapsed(), Duration::ZERO, progress)?;
            }
            Ok(())
        })
    }

    /// Reports progress, and ends the run if the callback asks for it.
    fn report_progress(
        &self,
        stage: &'static str,
        elapsed: Duration,
        total: Duration,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), RunError> {
        let (faults, last_fault) = self.log.faults();
        let now =
            Progress { stage, elapsed, total, acquisitions: self.log.acquisitions(), faults, last_fault };
        if progress(&now).is_break() {
            self.stop.set();
            return Err(RunError::Interrupted);
        }
        Ok(())
    }

    /// Ends the run, which takes some seconds, and reports progress meanwhile.
    fn wait_for_recovery(
        &self,
        sampler: Sampler,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<std::io::Result<()>, RunError> {
        let from = history::now();
        let elapsed = || Duration::from_nanos(history::now().saturating_sub(from));
        thread::scope(|scope| {
            let ending = scope.spawn(|| self.end_run(sampler));
            while !ending.is_finished() {
                thread::sleep(PROGRESS_INTERVAL);
                self.report_progress("settling", elapsed(), Duration::ZERO, progress)?;
            }
            Ok(ending.join().expect("no panic"))
        })
    }

    /// Ends all clients, then records the keys that are left on the nodes.
    fn end_run(&self, sampler: Sampler) -> std::io::Result<()> {
        self.log.begin_shutdown();
        for (process, problem) in self.clients.stop_all(CLIENT_STOP_TIMEOUT)? {
            self.log.record_error(format!("client {process} {problem}"));
        }
        drop(sampler);
        // A lock of a killed client expires within one ttl.
        thread::sleep(TTL + SLACK);
        for node in 0..self.nodes.count() {
            for key in self.keys() {
                match self.nodes.with_server(node, |server| server.command::<i64>(&["PTTL", &key])) {
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

/// Initializes new servers as a lock cluster.
fn initialize(urls: Vec<String>, names: Vec<String>) -> Result<(), RunError> {
    let failed = |error: &dyn std::error::Error| RunError::Servers(error.to_string());
    let initialized = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let builder =
            Redlock::builder().nodes(urls).node_names(names).max_ttl(MAX_TTL).dial_timeout(DIAL_TIMEOUT);
        runtime.map(|runtime| runtime.block_on(builder.initialize()))
    });
    match initialized.join().expect("no panic") {
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

/// Whether this library can set the server's clock.
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
