//! The arguments of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use super::NodeArgs;
use crate::config::values::{span, span_within};

#[derive(Debug, clap::Args)]
#[command(after_help = BENCH_HELP)]
pub(crate) struct BenchArgs {
    /// Measure on this many redis-servers, started for it on this machine. [default without a number: 5]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) dev: Option<u8>,
    /// How many tasks take locks at the same time.
    #[arg(short, long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) tasks: u16,
    /// How many names they lock: with fewer names than tasks, tasks wait for
    /// each other. [default: one for each task]
    #[arg(short, long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) keys: Option<u16>,
    /// How long each lock is held.
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = span)]
    pub(crate) hold: Duration,
    /// How long to measure, 1s to 1h: one fifth with one task alone, the rest with all.
    #[arg(short, long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    pub(crate) duration: Duration,
    /// The ttl of the locks. [default: 10s, or the max ttl if that is less]
    #[arg(long, value_name = "DUR", value_parser = span)]
    pub(crate) ttl: Option<Duration>,
    /// Kill one server a third into the time of all tasks, and start it again a third later. Only with --dev:
    /// a server of yours is never touched.
    #[arg(long)]
    pub(crate) kill_one: bool,
    /// Write the results into this file, as a page for a browser.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) nodes: NodeArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    span_within(text, "1s", "1h")
}

const BENCH_HELP: &str = "\
First one task alone acquires and releases a lock, over and over: that is what
a lock costs. Then all tasks do, on one thread: that is what the nodes and one
core of this machine can serve. Meanwhile each node is probed on a separate
connection: with an inspection of a free name (its round trip), and with a plain
lock on that node alone (a write: where that takes longer, the disk is the cause).

A lock has to wait for the quorum's last reply, so it cannot be faster than the
q-th fastest node (the third-fastest of five); how far it lies above that is the
share of locking itself.

Nothing of yours is touched. The names locked begin with `quorlock-bench:` and a
random number, all are released, and it is checked at the end that none is
left. Only the fencing numbers of these names (one small key each, none with
--mode plain) stay, and expire within a minute, or the max ttl if that is more.
The nodes must be a lock cluster already (`quorlock init`). It makes real load: on
servers that others depend on, begin with --tasks 1.

--kill-one works with --dev alone: a server of yours is never killed. For yours,
the table says what a lock would cost without one of the fastest nodes.

With --dev, the environment variables for other nodes are ignored.

Exit codes:
  0    it was measured
  64   the arguments are invalid
  69   no quorum of nodes could be reached, or votes; or no lock was granted
  70   a lock was lost, or a key of this run was left on a node: the results say so,
       also when it was interrupted
  74   the report, or the results, could not be written
  77   the nodes exclude this client: password, permission, role
  78   the configuration cannot work (with --dev: QUORLOCK_REDIS_SERVER names no
       server), or the nodes are another lock cluster
  130  it was interrupted (143 by TERM), and nothing is left: the results are of
       what was done until then

Examples:
  quorlock bench --dev --kill-one --report bench.html
  quorlock bench --nodes redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3
  quorlock bench --tasks 16 --keys 1 --hold 1ms --json     # all want one lock";
