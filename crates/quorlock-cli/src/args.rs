//! What can be typed.

mod bench;
mod forget;
mod init;
mod mistake;
mod nodes;
mod read;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::config::values::span;
pub(crate) use bench::BenchArgs;
pub(crate) use forget::ForgetArgs;
pub(crate) use init::InitArgs;
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
    /// Show who holds a lock, node by node. Exit code 0: free; 1: held; 69: no quorum votes; 74: stdout cannot be
    /// written to; 77: Redis refuses us; 78: the nodes are not one cluster on these terms.
    Status(StatusArgs),
    /// Free a lock whose holder hangs or is gone: deletes its key on every node, whoever holds it.
    Break(BreakArgs),
    /// Forget names that are free and will not be locked again soon, such as those of queue items: the fencing number that
    /// each node keeps of them goes within the longest ttl, instead of after --keep-fences. Exit code 0: forgotten; 69: too
    /// few nodes answered; 75: one is held; 77: Redis refuses us; 78: the nodes are not one cluster on these terms.
    Forget(ForgetArgs),
    /// Check every node, and say what to mend. Exit code 0: no fault; 1: something is to be mended; 74: stdout cannot be
    /// written to.
    Doctor(DoctorArgs),
    /// Run a command with fresh redis-servers of its own, declared a cluster and told to it as `QUORLOCK_NODES`.
    Dev(DevArgs),
    /// Break real servers, networks, clocks and clients under real locks, and judge whether every promise held. Exit
    /// code 0: all held; 1: one was broken.
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
    /// How long there is between TERM and KILL: for the command when the lock is being lost (at most a third of the ttl
    /// then), and for what it leaves running at its end.
    #[arg(long, default_value = "5s", value_name = "DUR", value_parser = span)]
    pub(crate) kill_after: Duration,
    /// Leave the command in our process group, as in a script. (It can use the terminal without that.)
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
pub(crate) struct StatusArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
    /// The lock's name.
    #[arg(help_heading = None)]
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = BREAK_HELP)]
pub(crate) struct BreakArgs {
    /// Yes, even if somebody still works under it.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) lock: StatusArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// A name to lock for a moment, to see whether that works. Say another if the user may touch only some keys.
    #[arg(long, default_value = "doctor-probe", value_name = "NAME")]
    pub(crate) probe: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// How many servers to start.
    #[arg(short = 'n', long = "nodes", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) count: u8,
    /// The longest --ttl on these servers. [default: 30s]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) longest_ttl: Option<Duration>,
    /// Say nothing on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The command to run, and its arguments. [default: your shell]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = CHAOS_HELP)]
pub(crate) struct ChaosArgs {
    /// How many servers to start: 3 to 9.
    #[arg(short, long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9))]
    pub(crate) nodes: u8,
    /// How many client processes fight for the locks: 2 to 64, of two tasks each.
    #[arg(short, long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    pub(crate) clients: u8,
    /// For how long: at least 5. Controls come on top.
    #[arg(short, long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=86400))]
    pub(crate) seconds: u64,
    /// What the random numbers begin with: the same seed makes the same faults at the same times, and the same clients.
    /// How they meet is the machine's, so a replay is close and not exact. [default: another each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Which faults, by the names below, separated by commas.
    #[arg(short, long, default_value = "all", value_name = "NAMES")]
    pub(crate) faults: String,
    /// Write what happened into this file, as a page to look at in a browser; as a picture in letters, if its name
    /// ends in .txt; or draw that on the terminal, for the name -.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write every event into this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// The server binary. [default: what `QUORLOCK_REDIS_SERVER` names, else redis-server or valkey-server, where they
    /// are usually found]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
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
  In its environment are QUORLOCK_NAME and, unless --plain,
    QUORLOCK_FENCING_TOKEN   a number, larger for every later holder of the lock
    QUORLOCK_FENCING_NONCE   32 hex digits, another for every holder
  to hand to what it writes to: that must keep the last pair it accepted, and
  accept only a larger number, or the same number with the same nonce. So it
  refuses a holder that was paused and has lost the lock since.

At a terminal:
  The command has the terminal, as if the shell had started it: it may ask, edit
  and page. Ctrl-C reaches it once, and leaves a loop of the shell around run.
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
to that (on Linux; elsewhere it ends the process group). Not ended is what others
do for it (docker, ssh, kubectl, systemctl, at), nor what we may not signal (sudo
as another user): that is said when it happens.

As the first process of a container, run waits for orphans. In a systemd unit,
set KillMode=mixed, so that a stop reaches the command once.

Exit codes:
  the command's own, or 128 + the number of the signal that ended it
  64   what was typed cannot work
  69   no quorum of nodes could be reached, or votes (see `quorlock init`)
  70   the lock was lost before the command had ended
  75   others hold the lock (or what -E says; 0 with --on-conflict skip)
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or the nodes are another cluster
  126  the command cannot be executed
  127  the command was not found";

const BREAK_HELP: &str = "\
A holder that still lives is not asked: it works on until its next renewal, at a
third of its ttl, while the next one may be in. Then it is told that the lock is
lost, and does not take it again. `quorlock run` ends its command with a KILL at
once, without a TERM: others may have the lock. Whoever has waited longest gets
the lock at once.

Every node of the list is asked, whatever lock cluster it belongs to.

With --plain nothing keeps a living holder from taking the lock again at its
next renewal, if nobody else has it by then: stop the holder first.

Exit codes:
  0    no key is left on a majority of the nodes
  64   --yes is missing
  69   too few nodes answered
  74   the answer cannot be written to stdout
  77   Redis refuses us: password, permission, role, missing command
  78   the configuration cannot work, or a node is a Redis Cluster member

Examples:
  quorlock status nightly
  quorlock break --yes nightly";

const CHAOS_HELP: &str = "\
Starts servers of its own on this machine, each behind a proxy of its own, and
clients that take locks on a few names, work under them, and tell every step on
one clock. Then it breaks things, by a plan drawn from the seed, and mends them.
At the end a judge reads the history and nothing else: never two holders at
once, fencing numbers in order, no lock valid past its deadline, every loss
told, no key left, nobody waiting for long while a quorum is up, and every live
lock's key on each node that has been up and well for two ttls.

Faults:
  kill          a server is killed (SIGKILL) and comes back with its data
  empty         a server is killed and comes back without data
  old           a server is killed and comes back with an old copy of its data
  pause         a server stands still (SIGSTOP, SIGCONT)
  client-pause  a server puts off all commands, or all writes (CLIENT PAUSE)
  flush         a server's data are deleted (FLUSHALL)
  scripts       a server forgets the scripts (SCRIPT FLUSH)
  failover      a replica that lags takes a server's place
  memory        a server's memory is full, under each eviction policy
  slow          what passes is late, and not evenly so
  cut           nothing arrives, from either end
  one-way       nothing arrives, from one end
  reset         connections are reset
  half-open     clients keep connections of which the server knows nothing
  stall         nobody takes what clients send, until they can send no more
  tear          connections end in the middle of a reply
  stale-key     keys that are nobody's stand where locks' keys would, on a minority of the
                servers
  skew          a server's clock runs 10 % too fast or too slow
  jump          a server's clock is set ahead or back, and put right later
  clock-offset  all servers' clocks but one are behind, steadily, from the start
  client-stop   a client that holds a lock stands still past its ttl
  client-kill   a client that holds a lock, or waits for one, is killed
  drop          clients drop the futures that acquire, extend and release, at any point
  block         a client's runtime is blocked for seconds
  all           all of these, and controls

Controls are short runs in which something is done that no lock of this kind
survives: plain locks whose nodes forget, clocks that all jump at once, a store
that asks for no number. What breaks there is listed as expected, and a control
by which nothing breaks is told, for then it has tested nothing.

All servers and clients are gone at the end, also after Ctrl-C.

Exit codes:
  0    every promise held
  1    a promise was broken: see --report, and replay it with its seed
  64   what was typed cannot work
  69   the servers could not be started
  74   the answer cannot be written to stdout

Examples:
  quorlock chaos
  quorlock chaos --seconds 300 --seed 7 --report out.html
  quorlock chaos --seconds 20 --faults kill,cut --report -
  quorlock chaos --faults kill,pause --nodes 3 --json";
