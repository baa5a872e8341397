//! A chaos run: starts servers and clients, injects planned faults, and checks the history.

mod client_pool;
mod log;
mod roster_limits;
mod run_spec;
mod sampler;
mod stop_signal;
mod timing;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use crate::checker::{Invariant, Verdict, check_history};
use crate::faults::{FaultKind, Injection, InjectionError, PlannedFault};
use crate::history::{History, NegativeControl};
use crate::plan::{PlanInput, plan};
use crate::seeded_rng::SeededRng;
use crate::{ClockLibrary, Setup};
use run_spec::{RunSpec, ServerSettings};
use stop_signal::StopSignal;

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of nodes.
    pub nodes: usize,
    /// The number of client processes at a time.
    pub clients: usize,
    /// How long clients work, without the negative controls.
    pub duration: Duration,
    /// The seed of the random numbers: the faults, their times and nodes, and the clients' actions.
    pub seed: u64,
    /// The kinds of faults to inject.
    pub faults: BTreeSet<FaultKind>,
    /// Whether to add negative controls: short runs with a deliberate fault beyond what the lock survives.
    pub controls: bool,
    /// The server binary. Defaults to the one that [`locate`](crate::locate) finds.
    pub server: Option<PathBuf>,
    /// The client program and its arguments. It must call [`client`](crate::client).
    pub program: (PathBuf, Vec<OsString>),
    /// The command that repeats the run, for the report.
    pub replay: String,
    /// When and where the run takes place, and the version of quorlock, for the report.
    pub description: String,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All events.
    pub history: History,
    /// The checker's verdict.
    pub verdict: Verdict,
    /// The history and the verdict of each negative control.
    pub controls: Vec<(History, Verdict)>,
    /// Requested faults that are not available here, and the reason.
    pub skipped: Vec<(FaultKind, String)>,
}

/// The progress of a run.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The name of the current stage.
    pub stage: &'static str,
    /// The time since the start of the stage.
    pub elapsed: Duration,
    /// The duration of the stage; zero if unknown.
    pub total: Duration,
    /// Locks acquired so far in this stage.
    pub acquisitions: usize,
    /// Faults so far in this stage.
    pub faults: usize,
    /// The last fault.
    pub last_fault: String,
}

/// Why a run did not complete. No process is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The servers could not be started.
    #[error("no servers: {0}")]
    Servers(String),
    /// The clients could not be started.
    #[error("no clients: {0}")]
    Clients(String),
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
}

/// Runs clients and faults, and checks the history. `progress` is called several times per second and can end
/// the run.
///
/// # Errors
///
/// A [`RunError`] if there is no history to check.
pub fn run(
    config: &Config,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, RunError> {
    let mut kinds = config.faults.clone();
    let (clocks, mut skipped) = clock_library(config, &mut kinds)?;
    let is_short = |kind: &FaultKind| config.duration < Duration::from_secs(kind.least_seconds());
    skipped.extend(kinds.iter().copied().filter(is_short).map(|kind| (kind, kind.needs_time())));
    kinds.retain(|kind| !is_short(kind));
    let mut setup = Setup::new();
    if let Some(binary) = &config.server {
        setup = setup.binary(binary);
    }
    let server = ServerSettings {
        setup: clocks.as_ref().map_or(setup.clone(), |clocks| setup.clone().clocks(clocks)),
        drift_ppm: if kinds.contains(&FaultKind::ClockSkew) { SKEWED_DRIFT_PPM } else { DRIFT_PPM },
        is_fenced: true,
    };
    let input = PlanInput {
        seed: config.seed,
        nodes: config.nodes,
        quorum: config.nodes / 2 + 1,
        kinds: kinds.clone(),
        duration: config.duration,
        ttl: timing::TTL,
        max_ttl: timing::MAX_TTL,
    };
    let control = NegativeControl {
        name: "a client is stopped past its ttl, with a store that checks no fencing number".to_owned(),
        breaks: Invariant::NoStaleWrite,
    };
    let has_stops = kinds.contains(&FaultKind::ClientStop) || kinds.contains(&FaultKind::BlockRuntime);
    // A new client that acquires a free key hides that waiting clients do not get it. So if stale keys are
    // the only fault of nodes, there are many keys for few tasks, with long holds and long waits.
    let is_sparse = kinds.iter().all(|kind| kind.is_of_clients() || *kind == FaultKind::StaleKey)
        && kinds.contains(&FaultKind::StaleKey);
    let main = RunSpec {
        config,
        name: "chaos",
        faults: plan(&input),
        duration: config.duration,
        cancels: kinds.contains(&FaultKind::Cancel),
        // Few keys for many tasks, so that each key has waiting tasks.
        tasks: 2,
        keys: if is_sparse { 40 } else { 5 },
        long_holds: if is_sparse { 40 } else { 3 },
        very_long_holds: 6,
        has_long_waits: is_sparse,
        // In a short run, or with few clients, no lock may be held for long enough.
        checks_redundancy: config.controls && config.duration >= LONG_RUN && config.clients >= MANY_CLIENTS,
        controls: if has_stops && config.controls { vec![control] } else { Vec::new() },
        server,
    };
    let history = main.run(&mut progress)?;
    let verdict = check_history(&history);
    let mut controls = Vec::new();
    if config.controls {
        for spec in negative_controls(config, &setup, clocks.as_ref()) {
            let history = spec.run(&mut progress)?;
            let verdict = check_history(&history);
            controls.push((history, verdict));
        }
    }
    Ok(Outcome { history, verdict, controls, skipped })
}

/// Kinds of faults that are not available here or in this run, and the reason.
type Skipped = Vec<(FaultKind, String)>;

/// The library of virtual clocks, if it is needed and available.
fn clock_library(
    config: &Config,
    kinds: &mut BTreeSet<FaultKind>,
) -> Result<(Option<ClockLibrary>, Skipped), RunError> {
    if !kinds.iter().any(|kind| kind.needs_virtual_clock()) {
        return Ok((None, Vec::new()));
    }
    let reason = match ClockLibrary::build() {
        Ok(library) => match run_spec::has_clock(config, &library) {
            Ok(true) => return Ok((Some(library), Vec::new())),
            Ok(false) => "this server does not load libraries".to_owned(),
            Err(error) => return Err(RunError::Servers(error.to_string())),
        },
        Err(error) => error.to_string(),
    };
    let skipped =
        kinds.iter().filter(|kind| kind.needs_virtual_clock()).map(|kind| (*kind, reason.clone())).collect();
    kinds.retain(|kind| !kind.needs_virtual_clock());
    Ok((None, skipped))
}

/// The negative controls: short runs in which invariants must be violated.
fn negative_controls<'a>(
    config: &'a Config,
    setup: &Setup,
    clocks: Option<&ClockLibrary>,
) -> Vec<RunSpec<'a>> {
    let every_node: Vec<usize> = (0..config.nodes).collect();
    let mut rng = SeededRng::for_part(config.seed, 3);
    let mut repeated = |count: u64, every_ms: u64, injection: fn(u64) -> Injection| {
        let fault = |number: u64| {
            let at = Duration::from_millis(1000 + number * every_ms + rng.between(0, 300));
            PlannedFault {
                at,
                duration: Duration::ZERO,
                nodes: every_node.clone(),
                injection: injection(number),
            }
        };
        (0..count).map(fault).collect::<Vec<_>>()
    };
    let flushes = repeated(6, 800, |_| Injection::Flush);
    // A client that knew the clocks before detects the jump and excludes the nodes. A new client cannot
    // detect it. A stopped holder detects nothing either, and its deadline has not passed.
    let mut clock_jumps = repeated(4, 2600, |_| Injection::ClockJump { micros: 2_000_000 });
    let client_faults: Vec<PlannedFault> = clock_jumps
        .iter_mut()
        .flat_map(|jump| {
            jump.duration = Duration::from_millis(900);
            let stop = (0_u64, 500_u64, Injection::ClientStop { draw: 0 });
            let new_clients =
                [10, 20, 30].map(|after| (after, 0, Injection::ClientKill { draw: 0, is_holder: false }));
            let planned = |(after, duration, injection)| PlannedFault {
                at: jump.at.saturating_sub(Duration::from_millis(50 - after)),
                duration: Duration::from_millis(duration),
                nodes: Vec::new(),
                injection,
            };
            std::iter::once(stop).chain(new_clients).map(planned).collect::<Vec<_>>()
        })
        .collect();
    clock_jumps.extend(client_faults);
    clock_jumps.sort_by_key(|fault| fault.at);
    let spec = |name, faults, millis, control: &str, server| RunSpec {
        config,
        name,
        faults,
        duration: Duration::from_millis(millis),
        cancels: false,
        tasks: 1,
        keys: 1,
        long_holds: 60,
        very_long_holds: 0,
        has_long_waits: false,
        checks_redundancy: false,
        controls: vec![NegativeControl { name: control.to_owned(), breaks: Invariant::MutualExclusion }],
        server,
    };
    let plain = ServerSettings { setup: setup.clone(), drift_ppm: DRIFT_PPM, is_fenced: false };
    let mut specs = vec![spec(
        "negative control: plain",
        flushes,
        6500,
        "probation off (plain locks), and all nodes lose their data",
        plain.clone(),
    )];
    if config.faults.contains(&FaultKind::AddressMove) {
        let moves = (0..3).map(|number| PlannedFault {
            at: Duration::from_millis(1000 + number * 2500),
            duration: Duration::from_millis(1500),
            nodes: (0..=config.nodes / 2).collect(),
            injection: Injection::AddressMove { reset_side: number as usize % 2 },
        });
        specs.push(spec(
            "negative control: addresses",
            moves.collect(),
            8500,
            "no roster (plain locks), and the addresses of a quorum of nodes move to blank servers",
            plain,
        ));
    }
    if let Some(clocks) = clocks {
        let setup = setup.clone().clocks(clocks);
        let virtual_clocks = ServerSettings { setup, drift_ppm: DRIFT_PPM, is_fenced: true };
        specs.push(spec(
            "negative control: clocks",
            clock_jumps,
            13_000,
            "the clocks of all nodes jump ahead, and new clients cannot detect it",
            virtual_clocks,
        ));
    }
    specs
}

impl From<InjectionError> for RunError {
    fn from(error: InjectionError) -> Self {
        Self::Servers(error.to_string())
    }
}

/// From this duration and number of clients on, a run must have a lock to check for redundancy.
const LONG_RUN: Duration = Duration::from_secs(25);
const MANY_CLIENTS: usize = 8;
/// The clock drift that clients allow for without clock skew.
const DRIFT_PPM: u32 = 10_000;
/// A clock that runs 10 % too fast shortens a ttl by 9.1 %; the rest is for the client's own clock.
const SKEWED_DRIFT_PPM: u32 = 120_000;
