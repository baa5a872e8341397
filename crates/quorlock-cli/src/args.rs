//! What can be typed.

mod bench;
mod chaos;
#[cfg(test)]
mod examples;
mod forget;
mod init;
mod look;
mod mistake;
mod nodes;
mod read;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::config::values::span;
pub(crate) use bench::BenchArgs;
pub(crate) use chaos::ChaosArgs;
pub(crate) use forget::ForgetArgs;
pub(crate) use init::InitArgs;
pub(crate) use look::{DoctorArgs, ForceReleaseArgs, StatusArgs};
pub(crate) use nodes::NodeArgs;
pub(crate) use read::Ended;

/// Locks over N independent Redis masters, for any command.
///
/// One instance at a time runs the job, and the loss of a minority of the nodes changes nothing.
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
    /// Declare these nodes a new cluster of locks: once, when the servers are new, so that nobody has to wait.
    Init(InitArgs),
    /// Show who holds a lock, node by node.
    Status(StatusArgs),
    /// Free a lock whose holder hangs or is gone: deletes its key on every node, whoever holds it.
    #[command(alias = "break")]
    ForceRelease(ForceReleaseArgs),
    /// Forget names that are free and will not be locked again soon, such as those of queue items: the fencing number that
    /// each node keeps of them goes within the longest ttl, instead of after --fencing-retention.
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
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// How long the lock outlives us if this machine dies. It is renewed as long as the command runs. [default: 15s, or
    /// the longest ttl if that is less]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) ttl: Option<Duration>,
    /// How long to wait for the lock, connecting included; then exit 75. A bare number counts seconds, here as elsewhere. 0s tries once, as --nonblock does. [default:
    /// wait for ever]
    #[arg(short, long, value_name = "DUR", value_parser = span, conflicts_with = "nonblock")]
    pub(crate) wait: Option<Duration>,
    /// Do not wait: fail at once when others hold the lock. Where several try at the same instant and split the servers,
    /// so that none has it, they try again once or twice, within some 60 ms.
    #[arg(short, long)]
    pub(crate) nonblock: bool,
    /// Ask for a fencing token above this number: the largest that the protected resource has seen, if it refuses ours
    /// because the nodes have forgotten theirs.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) min_fencing_number: u64,
    /// The exit code when others hold the lock.
    #[arg(short = 'E', long, default_value_t = super::exit::HELD, value_name = "N")]
    pub(crate) conflict_exit_code: u8,
    /// What to do when others hold the lock: fail, or skip (exit code 0, as cron jobs like it).
    #[arg(long, default_value = "fail", value_name = "WHAT")]
    pub(crate) on_conflict: OnConflict,
    /// How long there is between TERM and KILL: for the command when the lock is being lost (at most a third of the ttl
    /// then), and for what it leaves running at its end.
    #[arg(long, default_value = "5s", value_name = "DUR", value_parser = span)]
    pub(crate) kill_after: Duration,
    /// Leave the command in our process group, as in a script. (It can use the terminal without that.)
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Say nothing on stderr, but where what was typed cannot work (64).
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
#[command(after_help = DEV_HELP)]
pub(crate) struct DevArgs {
    /// How many servers to start.
    #[arg(short = 'n', long = "servers", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) count: u8,
    /// The longest --ttl on these servers. [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) max_ttl: Option<Duration>,
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
The command:
  It has our stdin, stdout and stderr. Signals that run gets are passed on to it;
  if it dies of one that ends us too (INT, TERM, HUP, QUIT), run dies of the same.
  In its environment are QUORLOCK_LOCK_NAME and, unless --mode plain,
    QUORLOCK_FENCING_TOKEN   a number, larger for every later holder of the lock
    QUORLOCK_FENCING_NONCE   32 hex digits, another for every holder
  to hand to what it writes to: that must keep the last pair it accepted, and
  accept only a larger number, or the same number with the same nonce. So it
  refuses a holder that was paused and has lost the lock since.

While it waits:
  After two seconds it says what it waits for, on stderr: who holds the lock, or
  what is wrong with the nodes. It looks again every ten seconds, and says what
  is of another kind by then: another holder (at most once a minute, in the long
  run), a key that never expires, a trouble that has passed.

At a terminal:
  The command has the terminal, as if the shell had started it: it may ask, edit
  and page. Ctrl-C reaches it once; if it dies of that, a loop around run ends.
  Ctrl-Z stops it and run. Nothing renews the lock then: continued in time (fg),
  the command goes on; else it is killed before the lock runs out. A window that
  is closed hangs up on the command, and the lock is released when it has ended.

When the lock is being lost, because renewals stay unconfirmed:
  The command gets TERM at the lock's deadline less --kill-after, and everything
  it has started KILL 200 ms before the deadline (a tenth of the ttl if that is
  less). A lock that others have broken or taken is lost already: then it gets
  the KILL at once.

When the command ends and leaves something running:
  That gets TERM, then KILL after --kill-after, and is named on stderr. Then the
  lock is released. Start what must live on by a service manager.

What is ended is all that the command has started, in whatever process group or
session, also when run itself was killed or stopped: a reaper between them sees
to that (on Linux; elsewhere it ends the process group). If that is killed too, by
hand, the command is, but not what it has started. Not ended is what others do
for it (docker, ssh, kubectl, systemctl, at), nor what we may not signal (sudo as
another user): that is said when it happens.

As the first process of a container, run waits for orphans. In a systemd unit,
set KillMode=mixed, so that a stop reaches the command once.

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

const DEV_HELP: &str = "\
The servers listen on this machine only, on free ports, with a folder each in
$TMPDIR. All are gone when the command has ended.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   what was typed cannot work
  69   no servers could be started
  78   QUORLOCK_REDIS_SERVER names no server
  126  the command cannot be executed
  127  the command was not found

Examples:
  quorlock dev
  quorlock dev -n 3 -- ./tests-with-locks";
