//! What can be typed.

mod bench;
mod chaos;
mod look;
mod nodes;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use bench::BenchArgs;
pub(crate) use chaos::ChaosArgs;
pub(crate) use look::{BreakArgs, DoctorArgs, StatusArgs};
pub(crate) use nodes::NodeArgs;

/// Locks over N independent Redis masters, for any command.
///
/// One instance at a time runs the job, and the loss of a minority of the nodes changes nothing.
#[derive(Debug, Parser)]
#[command(name = "quorlock", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a lock.
    Run(RunArgs),
    /// Declare these nodes a new cluster of locks: once, when the servers are new, so that nobody has to wait.
    Init(InitArgs),
    /// Show who holds a lock, node by node.
    Status(StatusArgs),
    /// Free a lock whose holder hangs or is gone: deletes its key on every node, whoever holds it.
    Break(BreakArgs),
    /// Forget names that are free and will not be locked again soon, such as those of queue items: the fencing number that
    /// each node keeps of them goes within the longest ttl, instead of after --keep-fences.
    Forget(ForgetArgs),
    /// Check every node, and say what to mend.
    Doctor(DoctorArgs),
    /// Run a command with fresh redis-servers of its own, declared a cluster and told to it as `QUORLOCK_NODES`.
    Dev(DevArgs),
    /// Break real servers, networks, clocks and clients under real locks, and judge whether every promise held.
    Chaos(ChaosArgs),
    /// Measure what a lock costs on these nodes: how long it takes, how that lies above the way to the nodes, and what
    /// many tasks at once, contention, and the death of a node make of it.
    Bench(BenchArgs),
    /// A client of `chaos`.
    #[command(name = "__chaos-client", hide = true)]
    ChaosClient,
    /// Ends the group of `run` when `run` is gone.
    #[command(name = "__reap", hide = true)]
    Reap,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// How long the lock outlives us if this machine dies. It is renewed as long as the command runs. [default: 15s, or
    /// the longest ttl if that is less]
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// How long to wait for the lock, connecting included; then exit 75. 0s tries once, as --nonblock does. [default:
    /// wait for ever]
    #[arg(short, long, value_name = "DUR", value_parser = humantime::parse_duration, conflicts_with = "nonblock")]
    pub(crate) wait: Option<Duration>,
    /// Do not wait: fail at once when others hold the lock. Where several try at the same instant and split the servers,
    /// so that none has it, they try again once or twice, within some 60 ms.
    #[arg(short, long)]
    pub(crate) nonblock: bool,
    /// Ask for a fencing token above this number: the largest that the guarded resource has seen, if it refuses ours
    /// because the nodes have forgotten theirs.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) floor: u64,
    /// The exit code when others hold the lock.
    #[arg(short = 'E', long, default_value_t = super::exit::HELD, value_name = "N")]
    pub(crate) conflict_exit_code: u8,
    /// What to do when others hold the lock: fail, or skip (exit code 0, as cron jobs like it).
    #[arg(long, default_value = "fail", value_name = "WHAT")]
    pub(crate) on_conflict: OnConflict,
    /// How long the command has to end by itself, after a TERM, when the lock is being lost; at most a third of the
    /// ttl. Then it is killed.
    #[arg(long, default_value = "5s", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) kill_after: Duration,
    /// Leave the command in our process group, so that it may read from the terminal. What it starts in turn is then
    /// not ended with it.
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Say nothing on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The lock's name: the same wherever the same thing is protected.
    #[arg(help_heading = None)]
    pub(crate) name: String,
    /// The command to run, and its arguments.
    #[arg(last = true, required = true, value_name = "CMD", help_heading = None)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    Fail,
    Skip,
}

#[derive(Debug, clap::Args)]
#[command(after_help = INIT_HELP)]
pub(crate) struct InitArgs {
    /// Also where nodes belong to a cluster already. Stop all its clients first: their locks are void.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = FORGET_HELP)]
pub(crate) struct ForgetArgs {
    /// Print one JSON object a line, for each name.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The locks' names.
    #[arg(help_heading = None, required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DEV_HELP)]
pub(crate) struct DevArgs {
    /// How many servers to start.
    #[arg(short = 'n', long = "nodes", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) count: u8,
    /// The longest --ttl on these servers. [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) longest_ttl: Option<Duration>,
    /// Say nothing on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The command to run, and its arguments. [default: your shell]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Try it, without any set-up but an installed redis-server:
  quorlock dev -n 5 -- sh -c 'quorlock run nightly -- echo one at a time'

For real:
  export QUORLOCK_NODES=redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock init       # once, when the servers are new
  quorlock doctor
  quorlock run --wait 30s nightly -- ./nightly-job";

const RUN_HELP: &str = "\
The command has our stdin and stdout and a process group of its own; signals
are passed on. In its environment are QUORLOCK_NAME and, unless --plain,
  QUORLOCK_FENCING_TOKEN   a number, larger for every later holder of the lock
  QUORLOCK_FENCING_NONCE   32 hex digits, another for every holder
to hand to what it writes to: that must keep the last pair it accepted, and
accept only a larger number, or the same number with the same nonce. So it
refuses a holder that was paused and has lost the lock since.

When renewals stay
unconfirmed, it gets a TERM at the lock's deadline less --kill-after, and its
whole group a KILL 200 ms before the deadline (a tenth of the ttl if that is
less): nothing of it outlives the lock, not even when quorlock itself is
killed. A lock that others have broken or taken is lost already: then it gets the
KILL at once. With --foreground, only the command itself is ended, not what it
started.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   what was typed cannot work, or it is inside a `run` of the same lock
  69   no quorum of nodes could be reached, or votes (see `quorlock init`)
  70   the lock was lost before the command had ended
  75   others hold the lock (or what -E says; 0 with --on-conflict skip)
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or the nodes are another cluster
  126  the command cannot be executed
  127  the command was not found";

const FORGET_HELP: &str = "\
Each name that was locked costs each node 120 bytes and the length of the name
for --keep-fences. A name that is forgotten costs them for the longest ttl at
most: a node drops its number when its clock has passed it by that much. Numbers
go on to grow if the name is locked again, as long as no node's clock is set
back by more.

Only nodes of this lock cluster forget. `break` asks every node of the list,
whatever lock cluster it belongs to.

Exit codes:
  0    forgotten on a quorum of the nodes
  64   what was typed cannot work
  69   too few nodes answered
  75   one of the names is held
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or the nodes are another cluster

Example:
  quorlock run order:81723 -- ./ship 81723 && quorlock forget order:81723";

const DEV_HELP: &str = "\
The servers listen on this machine only, on free ports, with a folder each in
$TMPDIR. All are gone when the command has ended.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   what was typed cannot work
  69   no servers could be started
  126  the command cannot be executed
  127  the command was not found

Examples:
  quorlock dev
  quorlock dev -n 3 -- ./tests-with-locks";

const INIT_HELP: &str = "\
Every node keeps a marker (the key quorlock:node): which cluster it belongs to
and on what terms, namely the number of nodes, the quorum, the longest ttl, and
how long fencing numbers are kept.
A node whose marker is gone, or was written before a restart, may have
forgotten locks, so it casts no vote for the longest ttl. Servers that are new
have nothing to forget; this says so, and they vote at once. Without it the
first client makes them a cluster too, and no lock is to be had for the
longest ttl.

To be run again without harm while the nodes keep their data: those that are
one cluster on these terms are left as they are. Other nodes that are not blank
are an error. But nodes that have all lost their data look new: after that,
wait for the longest ttl first, or leave it to the first client.

--force makes any nodes a new cluster. It is the way to change the number of
nodes, the quorum, the longest ttl or --keep-fences of a living cluster:
  1. stop all its clients: locks held meanwhile are not respected
  2. quorlock init --force, with the new --nodes, --quorum, --longest-ttl, …
  3. start the clients, with just the same

Exit codes:
  0    the nodes are a cluster on these terms
  69   not all nodes could be reached; all must be
  77   Redis refuses us: password, permission, role, missing command
  78   a node is not blank (without --force), or the configuration cannot work

Examples:
  quorlock init --nodes redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock init --quorum 4 --longest-ttl 10s
  quorlock init --json";
