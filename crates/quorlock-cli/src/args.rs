//! The command line: subcommands, flags and help texts.

mod bench;
mod chaos;
#[cfg(test)]
mod examples;
mod forget;
mod init;
mod inspect;
mod nodes;
mod read;
mod reconfigure;
mod usage_error;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::config::values::span;
pub(crate) use bench::BenchArgs;
pub(crate) use chaos::ChaosArgs;
pub(crate) use forget::ForgetArgs;
pub(crate) use init::InitArgs;
pub(crate) use inspect::{DoctorArgs, ForceReleaseArgs, StatusArgs};
pub(crate) use nodes::{NODE_FLAGS, NodeArgs};
pub(crate) use read::Stopped;
pub(crate) use reconfigure::{Goal, ReconfigureArgs};
pub(crate) use usage_error::cause_of;

/// Distributed locks over N independent Redis masters (Redlock), for any command.
///
/// One process at a time runs the job. Locks work on while a minority of the nodes is down.
#[derive(Debug, clap::Parser)]
#[command(name = "quorlock", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command while holding a lock.
    Run(RunArgs),
    /// Make new servers a lock cluster. Run this once, so that the first lock need not wait for probation.
    Init(InitArgs),
    /// Change the nodes, the quorum or the max ttl of a lock cluster while its clients lock.
    Reconfigure(ReconfigureArgs),
    /// Show who holds a lock, node by node.
    Status(StatusArgs),
    /// Free a lock whose holder hangs or is gone: delete its key on every node, whichever process holds it.
    #[command(visible_alias = "break")]
    ForceRelease(ForceReleaseArgs),
    /// Forget names that are free and will not be locked again soon, such as names of queue items. Each node
    /// then drops their fencing numbers within the max ttl, instead of after --fencing-retention.
    Forget(ForgetArgs),
    /// Check every node, and say what to fix.
    Doctor(DoctorArgs),
    /// Run a command with temporary redis-servers that are a lock cluster, named in `QUORLOCK_NODES`.
    Dev(DevArgs),
    /// Inject faults into real servers, networks, clocks and clients that
    /// use locks, and check every invariant.
    Chaos(ChaosArgs),
    /// Benchmark lock latency on these nodes: against the plain round trip, under load, under contention, and
    /// with one node down.
    Bench(BenchArgs),
    /// A client of `chaos`.
    #[command(name = "__chaos-client", hide = true)]
    ChaosClient,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// How long the lock stays if this machine dies. It is renewed while the command runs. [default: 15s, or
    /// the max ttl if that is less]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) ttl: Option<Duration>,
    /// Give up after this long, connecting included, with exit code 75. A bare number is seconds, as in all
    /// flags. 0s tries once, like --nonblock. [default: wait forever]
    #[arg(short, long, value_name = "DUR", value_parser = span, conflicts_with = "nonblock")]
    pub(crate) wait: Option<Duration>,
    /// Do not wait: fail at once if the lock is contended. If several processes try at the same moment and
    /// none gets a quorum, they retry once or twice, within about 60 ms.
    #[arg(short, long)]
    pub(crate) nonblock: bool,
    /// Request a fencing token above this number. For a protected resource that rejects tokens because the
    /// nodes have lost their numbers: give the largest number it has seen.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) min_fencing_number: u64,
    /// The exit code if the lock is contended.
    #[arg(short = 'E', long, default_value_t = super::exit::CONTENDED, value_name = "N")]
    pub(crate) conflict_exit_code: u8,
    /// What to do if the lock is contended: fail, or skip (exit code 0, for cron jobs).
    #[arg(long, default_value = "fail", value_name = "WHAT")]
    pub(crate) on_conflict: OnConflict,
    /// The time between TERM and KILL. It applies to the command when the lock is being lost (at most a third
    /// of the ttl), and to processes that it leaves running at its end.
    #[arg(long, default_value = "5s", value_name = "DUR", value_parser = span)]
    pub(crate) kill_after: Duration,
    /// Run the command in the process group of quorlock, as in a script. It
    /// can use the terminal without this.
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Print nothing on stderr, except for usage errors (64).
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The lock's name. Use the same name everywhere for the same protected resource.
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
#[command(after_help = DEV_HELP)]
pub(crate) struct DevArgs {
    /// How many servers to start.
    #[arg(short = 'n', long = "servers", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) count: u8,
    /// The longest --ttl on these servers. [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) max_ttl: Option<Duration>,
    /// Print nothing on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The command to run, and its arguments. [default: your shell]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Try it; this needs only an installed redis-server:
  quorlock dev --servers 5 -- sh -c 'quorlock run nightly -- echo one at a time'

In production:
  export QUORLOCK_NODES=redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock init       # once, when the servers are new
  quorlock doctor
  quorlock run --wait 30s nightly -- ./nightly-job";

const RUN_HELP: &str = "\
The command:
  It inherits stdin, stdout and stderr. Signals to run are passed on to it; if it
  dies of INT, TERM, HUP or QUIT, run dies of the same signal.
  Its environment has QUORLOCK_LOCK_NAME and, unless --mode plain,
    QUORLOCK_FENCING_TOKEN   a number that grows with every holder of the lock
    QUORLOCK_FENCING_NONCE   32 hex digits, different for every holder
  Pass both to the protected resource. It must keep the last pair it accepted,
  and accept only a larger number, or the same number with the same nonce. So it
  rejects a holder that was paused and has lost the lock since.

While it waits:
  After two seconds run reports on stderr what it waits for: the lock's holder, or
  what is wrong with the nodes. It checks again every ten seconds, and reports a
  change: another holder (after a while at most once a minute), a key that never
  expires, or a problem that is over.

At a terminal:
  The command has the terminal, as if the shell had started it: it may prompt,
  edit and page. Ctrl-C reaches it once; if it dies of that, a loop around run
  ends. Ctrl-Z stops it and run, and the lock is not renewed: continued in time
  (fg), the command goes on; otherwise it is killed before the lock expires.
  Closing the window sends HUP to the command; the lock is released at its end.

When the lock is being lost, because renewals are not confirmed:
  The command gets TERM at the lock's deadline minus --kill-after. All processes
  it has started get KILL 200 ms before the deadline (a tenth of the ttl if that
  is less). If another client has released or taken the lock, it is lost already:
  then they get the KILL at once.

When the command ends and leaves processes running:
  They get TERM, then KILL after --kill-after, and are named on stderr. Then the
  lock is released. Start processes that must live on with a service manager.

All processes that the command has started are ended, in any process group or
session, also if run itself was killed or stopped: a reaper process does that (on
Linux; elsewhere it ends the process group). If the reaper is killed too, by hand,
the command is ended, but not the processes it has started. Not ended is work done
by others for it (docker, ssh, kubectl, systemctl, at), nor processes that run may
not signal (sudo as another user): run reports those.

As the first process of a container, run reaps orphans. In a systemd unit, set
KillMode=mixed, so that a stop reaches the command once.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   usage error, or it is inside a `run` of the same lock
  69   no quorum of nodes could be reached, or votes (see `quorlock init`)
  70   the lock was lost before the command had ended
  71   an internal error, such as a thread or a process that cannot be started
  75   the lock is contended (or the code of -E; 0 with --on-conflict skip)
  77   the nodes exclude this client: password, permission, role, missing command
  78   the configuration is invalid, or the nodes are another lock cluster
  126  the command cannot be executed
  127  the command was not found";

const DEV_HELP: &str = "\
The servers listen on this machine only, on free ports, each with a folder in
$TMPDIR. They are removed when the command ends.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   usage error
  69   no servers could be started
  78   QUORLOCK_REDIS_SERVER is not a server
  126  the command cannot be executed
  127  the command was not found

Examples:
  quorlock dev
  quorlock dev --servers 3 -- ./tests-with-locks";
