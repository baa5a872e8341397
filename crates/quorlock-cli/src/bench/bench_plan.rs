//! The benchmark plan: checks the arguments once and derives consistent numbers from them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use quorlock::error::{ConnectError, InitError};
use quorlock::{Redlock, RedlockBuilder};
use quorlock_chaos::Fleet;

use crate::args::{BenchArgs, NodeArgs};
use crate::config::{self, Cluster};
use crate::exit::{self, Failure};

/// What to measure: tasks, names, durations.
#[derive(Clone, Debug)]
pub(super) struct BenchPlan {
    pub(super) tasks: usize,
    pub(super) keys: usize,
    pub(super) hold: Duration,
    pub(super) ttl: Duration,
    /// The duration of the phase with one task.
    pub(super) alone: Duration,
    /// The duration of the phases with all tasks, after that.
    pub(super) load: Duration,
    /// None for plain clients.
    pub(super) max_ttl: Option<Duration>,
    pub(super) quorum: usize,
    /// The common prefix of all names. It is random, so that no other program uses them.
    pub(super) prefix: String,
}

/// The nodes to measure.
pub(super) struct Target {
    pub(super) builder: RedlockBuilder,
    pub(super) urls: Vec<String>,
    /// The servers, if they were started for this run.
    pub(super) fleet: Option<Fleet>,
}

impl BenchPlan {
    /// The name of a lock.
    pub(super) fn name(&self, key: usize) -> String {
        format!("{}:{key}", self.prefix)
    }

    pub(super) fn total(&self) -> Duration {
        self.alone + self.load
    }

    /// Whether tasks wait for each other.
    pub(super) fn is_contended(&self) -> bool {
        self.tasks > self.keys
    }
}

/// Checks all arguments, and then starts servers if `--dev` asks for them.
pub(super) async fn prepare(args: &BenchArgs) -> Result<(BenchPlan, Target), Failure> {
    let usage = |message: &str| Err(Failure::new(exit::USAGE, message));
    let tasks = usize::from(args.tasks);
    let keys = args.keys.map_or(tasks, usize::from);
    let duration = args.duration;
    let (alone, load) = (duration / 5, duration * 4 / 5);
    if keys > tasks {
        return usage(
            "more --keys than --tasks: each task locks one name, so the others would remain unused",
        );
    }
    if args.hold >= load {
        return usage("a --hold as long as the run would show one lock a task: take a shorter one");
    }
    if args.dev.is_some() && has_node_flags(&args.nodes) {
        return usage(
            "--dev starts servers of its own, without TLS: leave out --nodes, --config and --tls-*, or leave out --dev",
        );
    }
    if args.kill_one {
        let Some(count) = args.dev.map(usize::from) else {
            return usage(
                "--kill-one works with --dev only: a server of yours is never killed (the table says what a lock would \
                 cost without one of the fastest nodes)",
            );
        };
        if count <= args.nodes.quorum.unwrap_or(count / 2 + 1) {
            return usage(
                "--kill-one takes a node from the quorum, and none can be spared: take more with --dev",
            );
        }
        if args.duration < Duration::from_secs(3) {
            return usage(
                "--kill-one needs --duration 3s or more: a part before, one without the node, one after",
            );
        }
    }
    let prefix = format!("quorlock-bench:{:016x}", RandomState::new().build_hasher().finish());
    let (cluster, fleet) = match args.dev {
        None => {
            let cluster = config::cluster_on_current_runtime(args.nodes.clone())?;
            // A benchmark changes nothing: it neither initializes a lock cluster nor adds a node.
            (Cluster { builder: cluster.builder.read_only(true), ..cluster }, None)
        }
        Some(count) => own_servers(args, usize::from(count), load).await?,
    };
    let max_ttl = cluster.max_ttl;
    let ttl = args.ttl.unwrap_or_else(|| max_ttl.map_or(TTL, |longest| longest.min(TTL)));
    config::check_lock(&cluster.builder, &format!("{prefix}:0"), Some(ttl), 0)?;
    let quorum = cluster.quorum;
    let plan = BenchPlan { tasks, keys, hold: args.hold, ttl, alone, load, max_ttl, quorum, prefix };
    let builder = cluster.builder.client_name("quorlock-bench");
    Ok((plan, Target { builder, urls: cluster.urls, fleet }))
}

/// Whether nodes were given as arguments. The environment does not count for `--dev`.
fn has_node_flags(args: &NodeArgs) -> bool {
    let files = [&args.config, &args.tls_ca, &args.tls_cert, &args.tls_key];
    !args.nodes.is_empty() || !args.node_names.is_empty() || files.into_iter().any(Option::is_some)
}

async fn own_servers(
    args: &BenchArgs,
    count: usize,
    load: Duration,
) -> Result<(Cluster, Option<Fleet>), Failure> {
    let fleet = Fleet::start(count).map_err(|error| exit::no_servers(&error))?;
    // A killed node casts no vote for the max ttl. Keep the max ttl short, so that the node votes again within
    // the run.
    let longest = if args.kill_one { (load / 6).min(config::MAX_TTL) } else { config::MAX_TTL };
    let max_ttl = args.nodes.max_ttl.unwrap_or(longest);
    let is_plain = args.nodes.mode == Some(quorlock::Mode::Plain);
    let urls = fleet.urls();
    let mut builder = Redlock::builder().nodes(urls.clone()).max_ttl(max_ttl);
    if let Some(quorum) = args.nodes.quorum {
        builder = builder.quorum(quorum);
    }
    if let Some(timeout) = args.nodes.reply_timeout {
        builder = builder.reply_timeout(timeout);
    }
    if let Some(timeout) = args.nodes.dial_timeout {
        builder = builder.dial_timeout(timeout);
    }
    if let Some(share) = args.nodes.clock_drift {
        builder = builder.max_clock_drift(share);
    }
    if is_plain {
        builder = builder.mode(quorlock::Mode::Plain);
    } else {
        let initialized = builder.clone().initialize().await;
        initialized.map_err(|error| {
            let is_invalid = matches!(error, InitError::Connect(ConnectError::InvalidInput(_)));
            Failure::new(if is_invalid { exit::USAGE } else { exit::NO_QUORUM }, error.to_string())
        })?;
    }
    let quorum = args.nodes.quorum.unwrap_or(count / 2 + 1);
    let fencing_retention = config::default_fencing_retention(max_ttl);
    let max_ttl = (!is_plain).then_some(max_ttl);
    let dial_timeout = config::DIAL_TIMEOUT;
    Ok((Cluster { builder, urls, quorum, max_ttl, fencing_retention, dial_timeout }, Some(fleet)))
}

/// The library's default too.
const TTL: Duration = Duration::from_secs(10);
