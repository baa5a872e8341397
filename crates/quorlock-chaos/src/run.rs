//! Runs servers, clients and planned faults, and checks the history.

mod client_pool;
mod log;
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
use crate::history::{Control, History};
use crate::plan::{Scope, plan};
use crate::seeded_rng::SeededRng;
use crate::{ClockLibrary, Setup};
use run_spec::{RunSpec, ServerSettings};
use stop_signal::StopSignal;

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many nodes.
    pub nodes: usize,
    /// How many client processes at a time.
    pub clients: usize,
    /// How long clients are at work, without the negative controls.
    pub duration: Duration,
    /// The seed of the random numbers: which faults, when, to which nodes, and what clients do.
    pub seed: u64,
    /// Which faults.
    pub faults: BTreeSet<FaultKind>,
    /// Whether to add negative controls: short runs with a step beyond what the lock survives.
    pub controls: bool,
    /// The server binary, if not the one that is [found](crate::locate).
    pub server: Option<PathBuf>,
    /// The client program and its arguments: it must call [`client`](crate::client).
    pub program: (PathBuf, Vec<OsString>),
    /// The command that repeats the run, for the report.
    pub replay: String,
    /// When and where this is run, and with what, in words, for the report.
    pub description: String,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All events.
    pub history: History,
    /// The checker's verdict.
    pub verdict: Verdict,
    /// The same of each negative control.
    pub controls: Vec<(History, Verdict)>,
    /// Requested faults that are not available here, and why.
    pub skipped: Vec<(FaultKind, String)>,
}

/// The progress of a run.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The current stage, in a word or two.
    pub stage: &'static str,
    /// How long the stage has lasted.
    pub elapsed: Duration,
    /// How long the stage lasts in all; zero where that is not known.
    pub total: Duration,
    /// Locks taken so far in this stage.
    pub acquisitions: usize,
    /// Faults so far in this stage.
    pub faults: usize,
    /// The last fault.
    pub last_fault: String,
}

/// Why a run did not complete. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The servers could not be set up.
    #[error("no servers: {0}")]
    Servers(String),
    /// The clients could not be set up.
    #[error("no clients: {0}")]
    Clients(String),
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
}

/// Runs clients and faults, and checks the history. `progress` is called several times a second and may end the run.
///
/// # Errors
///
/// A [`RunError`] if there is no history to check.
pub fn run(
    config: &Config,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome, RunError> {
    let mut kinds = config.faults.clone();
    let (clocks, mut skipped) = clocks(config, &mut kinds)?;
    let is_short = |kind: &FaultKind| config.duration < Duration::from_secs(kind.least_seconds());
    skipped.extend(kinds.iter().copied().filter(is_short).map(|kind| (kind, kind.needs_time())));
    kinds.retain(|kind| !is_short(kind));
    let mut setup = Setup::new();
    if let Some(binary) = &config.server {
        setup = setup.binary(binary);
    }
    let terms = ServerSettings {
        setup: clocks.as_ref().map_or(setup.clone(), |clocks| setup.clone().clocks(clocks)),
        drift_ppm: if kinds.contains(&FaultKind::ClockSkew) { SKEWED_DRIFT_PPM } else { DRIFT_PPM },
        is_fenced: true,
    };
    let scope = Scope {
        seed: config.seed,
        nodes: config.nodes,
        quorum: config.nodes / 2 + 1,
        kinds: kinds.clone(),
        duration: config.duration,
        ttl: timing::TTL,
        max_ttl: timing::MAX_TTL,
    };
    let unfenced = Control {
        name: "a client stands still past its ttl, with a store that checks no number".to_owned(),
        breaks: Invariant::NoStaleWrite,
    };
    let stops = kinds.contains(&FaultKind::ClientStop) || kinds.contains(&FaultKind::BlockRuntime);
    // A client that comes by finds a key free for which others wait, and so hides that they wait in vain. So where
    // nothing else is broken, there are many keys for few tasks, which hold them for long and wait for long.
    let is_sparse = kinds.iter().all(|kind| kind.is_of_clients() || *kind == FaultKind::StaleKey)
        && kinds.contains(&FaultKind::StaleKey);
    let main = RunSpec {
        config,
        name: "chaos",
        steps: plan(&scope),
        duration: config.duration,
        cancels: kinds.contains(&FaultKind::Cancel),
        // Few keys for many tasks, so that some task waits for each key.
        tasks: 2,
        keys: if is_sparse { 40 } else { 5 },
        long_holds: if is_sparse { 40 } else { 3 },
        very_long_holds: 6,
        has_long_waits: is_sparse,
        // With few clients, or few kinds of faults, each lock may end, or each node may be hit, too soon.
        checks_redundancy: config.controls && config.duration >= LONG_RUN && config.clients >= MANY_CLIENTS,
        controls: if stops && config.controls { vec![unfenced] } else { Vec::new() },
        server: terms,
    };
    let history = main.run(&mut progress)?;
    let verdict = check_history(&history);
    let mut controls = Vec::new();
    if config.controls {
        for stage in extra_runs(config, &setup, clocks.as_ref()) {
            let history = stage.run(&mut progress)?;
            let verdict = check_history(&history);
            controls.push((history, verdict));
        }
    }
    Ok(Outcome { history, verdict, controls, skipped })
}

/// Kinds of faults that are not available here, or in so short a run, and why.
type Skipped = Vec<(FaultKind, String)>;

/// Clocks that can be set, if they are wanted and available.
fn clocks(
    config: &Config,
    kinds: &mut BTreeSet<FaultKind>,
) -> Result<(Option<ClockLibrary>, Skipped), RunError> {
    if !kinds.iter().any(|kind| kind.needs_virtual_clock()) {
        return Ok((None, Vec::new()));
    }
    let why = match ClockLibrary::build() {
        Ok(library) => match run_spec::has_clock(config, &library) {
            Ok(true) => return Ok((Some(library), Vec::new())),
            Ok(false) => "this server does not load libraries".to_owned(),
            Err(error) => return Err(RunError::Servers(error.to_string())),
        },
        Err(error) => error.to_string(),
    };
    let skipped =
        kinds.iter().filter(|kind| kind.needs_virtual_clock()).map(|kind| (*kind, why.clone())).collect();
    kinds.retain(|kind| !kind.needs_virtual_clock());
    Ok((None, skipped))
}

/// The negative controls: short runs in which invariants must be violated, or they would test nothing.
fn extra_runs<'a>(config: &'a Config, setup: &Setup, clocks: Option<&ClockLibrary>) -> Vec<RunSpec<'a>> {
    let every_node: Vec<usize> = (0..config.nodes).collect();
    let mut chance = SeededRng::of_part(config.seed, 3);
    let mut times = |count: u64, every_ms: u64, act: fn(u64) -> Injection| {
        let step = |number: u64| {
            let at = Duration::from_millis(1000 + number * every_ms + chance.between(0, 300));
            PlannedFault { at, lasts: Duration::ZERO, nodes: every_node.clone(), injection: act(number) }
        };
        (0..count).map(step).collect::<Vec<_>>()
    };
    let forgetting = times(6, 800, |_| Injection::Flush);
    // A client that knew the clocks before sees them jump and excludes them. A new client cannot. A stopped holder sees
    // nothing and need not: its lock would last until it is resumed.
    let mut jumping = times(4, 2600, |_| Injection::ClockJump { micros: 2_000_000 });
    let others: Vec<PlannedFault> = jumping
        .iter_mut()
        .flat_map(|jump| {
            jump.lasts = Duration::from_millis(900);
            let stop = (0_u64, 500_u64, Injection::ClientStop { draw: 0 });
            let newcomers =
                [10, 20, 30].map(|after| (after, 0, Injection::ClientKill { draw: 0, holds: false }));
            let prepared = |(after, lasts, act)| PlannedFault {
                at: jump.at.saturating_sub(Duration::from_millis(50 - after)),
                lasts: Duration::from_millis(lasts),
                nodes: Vec::new(),
                injection: act,
            };
            std::iter::once(stop).chain(newcomers).map(prepared).collect::<Vec<_>>()
        })
        .collect();
    jumping.extend(others);
    jumping.sort_by_key(|step| step.at);
    let stage = |name, steps, millis, control: &str, terms| RunSpec {
        config,
        name,
        steps,
        duration: Duration::from_millis(millis),
        cancels: false,
        tasks: 1,
        keys: 1,
        long_holds: 60,
        very_long_holds: 0,
        has_long_waits: false,
        checks_redundancy: false,
        controls: vec![Control { name: control.to_owned(), breaks: Invariant::Exclusion }],
        server: terms,
    };
    let plain = ServerSettings { setup: setup.clone(), drift_ppm: DRIFT_PPM, is_fenced: false };
    let mut stages = vec![stage(
        "control: plain",
        forgetting,
        6500,
        "probation off (plain locks), and all nodes forget",
        plain,
    )];
    if let Some(clocks) = clocks {
        let setup = setup.clone().clocks(clocks);
        let bent = ServerSettings { setup, drift_ppm: DRIFT_PPM, is_fenced: true };
        stages.push(stage(
            "control: clocks",
            jumping,
            13_000,
            "the clocks of all nodes jump ahead, and new clients cannot know",
            bent,
        ));
    }
    stages
}

impl From<InjectionError> for RunError {
    fn from(error: InjectionError) -> Self {
        Self::Servers(error.to_string())
    }
}

/// A run this long with every fault and this many clients has a lock to check for redundancy, or it does not test that.
const LONG_RUN: Duration = Duration::from_secs(25);
const MANY_CLIENTS: usize = 8;
/// The drift that clients allow for where clocks are good.
const DRIFT_PPM: u32 = 10_000;
/// Where clocks run 10 % too fast, 9.1 % of a ttl are missing; the rest is for the client's own clock.
const SKEWED_DRIFT_PPM: u32 = 120_000;
